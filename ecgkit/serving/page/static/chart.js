// An ECG on millimetre paper: to scale at 96 pixels per inch, with zoom, panning and calipers.
const PIXELS_PER_MM = 96 / 25.4;
const NO_VALUE = -32768;
const TOP = 8, BOTTOM = 6; // mm above and below the leads
const charts = new WeakMap();

class Chart {
  constructor(root) {
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.find = (name) => root.querySelector("." + name);
    this.listen();
  }

  update(data) {
    const isOther = !this.data || this.data.id !== data.id;
    this.data = data;
    if (isOther) {
      const bytes = Uint8Array.from(atob(data.signal), (letter) => letter.charCodeAt(0));
      const values = new Int16Array(bytes.buffer);
      const n = values.length / data.leads.length;
      this.leads = data.leads.map((name, row) => ({ name, values: values.subarray(row * n, (row + 1) * n) }));
      this.seconds = n / data.rate;
      this.hidden = new Set(data.missing);
      this.listLeads();
      this.reset();
    }
    this.canvas.setAttribute("aria-label", data.description);
    this.draw();
  }

  reset() {
    this.zoom = 1;
    this.start = 0;
    this.corners = null;
    this.active = 1;
    this.find("readout").textContent = "";
  }

  listLeads() {
    const list = this.find("leads");
    list.querySelectorAll("label").forEach((label) => label.remove());
    for (const { name } of this.leads) {
      const label = document.createElement("label"), box = document.createElement("input");
      box.type = "checkbox";
      box.checked = !this.hidden.has(name);
      box.disabled = this.data.missing.includes(name);
      box.onchange = () => { this.hidden[box.checked ? "delete" : "add"](name); this.corners = null; this.draw(); };
      label.append(box, name);
      list.append(label);
    }
  }

  // The geometry, in CSS pixels.
  get speed() { return Number(this.find("speed").value); }
  get gain() { return Number(this.find("gain").value); }
  get mm() { return PIXELS_PER_MM * this.zoom; }
  get perSecond() { return this.speed * this.mm; }
  get perMillivolt() { return this.gain * this.mm; }
  get rowHeight() { return (6 + 1.2 * this.gain) * this.mm; }
  get rows() { return this.leads.filter(({ name }) => !this.hidden.has(name)); }
  get width() { return this.canvas.clientWidth; }
  get height() { return (TOP + BOTTOM) * this.mm + Math.max(1, this.rows.length) * this.rowHeight; }
  level(row) { return TOP * this.mm + (row + 0.5) * this.rowHeight; }
  x(time) { return (time - this.start) * this.perSecond; }
  time(x) { return this.start + x / this.perSecond; }
  rowAt(y) { return Math.max(0, Math.min(this.rows.length - 1, Math.floor((y - TOP * this.mm) / this.rowHeight))); }

  moveTo(start) {
    const last = Math.max(0, this.seconds - this.width / this.perSecond);
    this.start = Math.max(0, Math.min(last, start));
    this.draw();
  }

  zoomBy(factor, x = this.width / 2) {
    const time = this.time(x);
    this.zoom = Math.max(0.25, Math.min(6, this.zoom * factor));
    this.moveTo(time - x / this.perSecond);
  }

  draw() {
    if (!this.data || !this.width) return;
    const { canvas, width } = this, ratio = window.devicePixelRatio || 1;
    this.start = Math.max(0, Math.min(this.start, this.seconds - width / this.perSecond));
    canvas.style.height = this.height + "px";
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(this.height * ratio);
    Object.assign(canvas.dataset, { perSecond: this.perSecond, perMillivolt: this.perMillivolt, start: this.start });
    const position = this.find("position");
    position.max = Math.max(0, this.seconds - width / this.perSecond).toFixed(1);
    position.value = this.start;
    position.hidden = Number(position.max) === 0;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "13px sans-serif";
    const ink = this.colors();
    pen.fillStyle = ink.paper;
    pen.fillRect(0, 0, width, this.height);
    this.drawGrid(pen, ink);
    this.drawAreas(pen, ink);
    this.rows.forEach((lead, row) => this.drawLead(pen, ink, lead, row));
    this.drawMarks(pen, ink);
    if (this.corners) this.drawCalipers(pen, ink);
  }

  colors() {
    const probe = document.createElement("span");
    probe.style.color = "var(--st-background-color)";
    this.root.querySelector(".ecg").append(probe);
    const parts = (getComputedStyle(probe).color.match(/[\d.]+/g) || [255, 255, 255]).map(Number);
    probe.remove();
    const isDark = 0.3 * parts[0] + 0.59 * parts[1] + 0.11 * parts[2] < 128;
    return isDark
      ? { paper: "#15171c", fine: "#33262a", coarse: "#5a3a40", trace: "#f2f2f2", text: "#f2f2f2", peak: "#6cb4ff",
          wave: { P: "#6cb4ff", QRS: "#ffb454", T: "#7bd88f" }, caliper: "#ffd866", speaksFor: "255, 150, 40", speaksAgainst: "60, 140, 255" }
      : { paper: "#fffdfb", fine: "#fbe3e0", coarse: "#efb5ae", trace: "#111111", text: "#111111", peak: "#0b57a4",
          wave: { P: "#0b57a4", QRS: "#a34700", T: "#1b6e2c" }, caliper: "#6a1b9a", speaksFor: "235, 120, 0", speaksAgainst: "20, 110, 230" };
  }

  drawGrid(pen, ink) {
    const lines = (every, color) => {
      const step = every * this.mm;
      pen.beginPath();
      for (let x = -(this.start * this.perSecond) % step; x < this.width; x += step) { pen.moveTo(x, 0); pen.lineTo(x, this.height); }
      for (let y = this.level(0) % step; y < this.height; y += step) { pen.moveTo(0, y); pen.lineTo(this.width, y); }
      pen.strokeStyle = color;
      pen.lineWidth = 1;
      pen.stroke();
    };
    if (this.mm > 2.5) lines(1, ink.fine);
    lines(5, ink.coarse);
    pen.fillStyle = ink.text;
    const every = this.perSecond < 30 ? 5 : 1;
    for (let second = Math.ceil(this.start / every) * every; second <= this.time(this.width) && second <= this.seconds; second += every) {
      pen.fillText(second + " s", this.x(second) + 2, this.height - 5);
    }
  }

  // Where the model looked: from -1 (against the label) to 1 (for it), per lead and part of the recording.
  drawAreas(pen, ink) {
    const { areas } = this.data;
    if (!areas) return;
    this.rows.forEach(({ name }, row) => {
      const values = areas.values[this.data.leads.indexOf(name)];
      values.forEach((value, part) => {
        pen.fillStyle = `rgba(${value > 0 ? ink.speaksFor : ink.speaksAgainst}, ${0.6 * Math.abs(value)})`;
        pen.fillRect(this.x(part * areas.seconds), TOP * this.mm + row * this.rowHeight, areas.seconds * this.perSecond + 0.5, this.rowHeight);
      });
    });
  }

  drawLead(pen, ink, { name, values }, row) {
    const { rate } = this.data, level = this.level(row), scale = this.perMillivolt / 1000;
    const first = Math.max(0, Math.floor(this.start * rate) - 1);
    const last = Math.min(values.length - 1, Math.ceil(this.time(this.width) * rate) + 1);
    const perPixel = rate / this.perSecond;
    pen.beginPath();
    let isDown = false;
    const to = (sample, value) => {
      const x = this.x(sample / rate), y = level - value * scale;
      isDown ? pen.lineTo(x, y) : pen.moveTo(x, y);
      isDown = true;
    };
    if (perPixel <= 2) {
      for (let i = first; i <= last; i++) {
        if (values[i] === NO_VALUE) isDown = false; else to(i, values[i]);
      }
    } else {
      for (let at = first; at <= last; at += perPixel) { // lowest and highest value of each pixel
        let low = Infinity, high = -Infinity;
        for (let i = Math.floor(at); i < Math.min(last + 1, at + perPixel); i++) {
          if (values[i] === NO_VALUE) continue;
          low = Math.min(low, values[i]);
          high = Math.max(high, values[i]);
        }
        if (low > high) isDown = false; else { to(at, low); to(at, high); }
      }
    }
    pen.strokeStyle = ink.trace;
    pen.lineWidth = 1.3;
    pen.lineJoin = "round";
    pen.stroke();
    const y = level - this.rowHeight / 2 + 15, box = pen.measureText(name).width + 8;
    pen.fillStyle = ink.paper;
    pen.fillRect(2, y - 13, box, 17);
    pen.fillStyle = ink.text;
    pen.fillText(name, 6, y);
  }

  drawMarks(pen, ink) {
    const { peaks, bounds } = this.data, bottom = this.height - BOTTOM * this.mm;
    const isShown = (time) => time >= this.start - 1 && time <= this.time(this.width) + 1;
    if (this.find("peaks").checked) {
      pen.fillStyle = ink.peak;
      for (const time of peaks.filter(isShown)) {
        const x = this.x(time), y = TOP * this.mm - 2;
        pen.beginPath();
        pen.moveTo(x, y);
        pen.lineTo(x - 5, y - 9);
        pen.lineTo(x + 5, y - 9);
        pen.fill();
      }
    }
    if (!this.find("bounds").checked) return;
    for (const time of peaks.filter(isShown)) {
      for (const [wave, from, until] of bounds) {
        pen.strokeStyle = pen.fillStyle = ink.wave[wave];
        pen.setLineDash([3, 3]);
        pen.beginPath();
        for (const end of [from, until].filter((end) => end !== null)) {
          pen.moveTo(this.x(time + end), TOP * this.mm);
          pen.lineTo(this.x(time + end), bottom);
        }
        pen.stroke();
        pen.setLineDash([]);
        // P ends where QRS begins, so that the letters stand next to each other.
        const middle = from === null ? until : (from + until) / 2;
        const shift = { P: pen.measureText(wave).width - 2, QRS: 7, T: pen.measureText(wave).width / 2 }[wave];
        pen.fillText(wave, this.x(time + middle) - shift, 12);
      }
    }
  }

  drawCalipers(pen, ink) {
    const [a, b] = this.corners.map(({ time, y }) => ({ x: this.x(time), y: y * this.mm }));
    pen.strokeStyle = pen.fillStyle = ink.caliper;
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (const { x, y } of [a, b]) {
      pen.moveTo(x, 0); pen.lineTo(x, this.height);
      pen.moveTo(Math.min(a.x, b.x), y); pen.lineTo(Math.max(a.x, b.x), y);
    }
    pen.stroke();
    const active = this.active ? b : a;
    pen.beginPath();
    pen.arc(active.x, active.y, 6, 0, 2 * Math.PI);
    pen.fill();
  }

  // Corners keep their height in mm at the present gain; a change of gain or leads removes them.
  measure() {
    const [a, b] = this.corners;
    const ms = Math.abs(b.time - a.time) * 1000, mv = (a.y - b.y) / this.gain;
    const lead = this.rows[this.rowAt(a.y * this.mm)];
    const rate = ms >= 100 ? ` (${Math.round(60000 / ms)}/min)` : "";
    this.find("readout").textContent = `Calipers: ${ms.toFixed(0)} ms${rate}, ${mv.toFixed(2)} mV, lead ${lead ? lead.name : "none"}`;
    this.draw();
  }

  get isMeasuring() { return this.find("calipers").getAttribute("aria-pressed") === "true"; }

  toggleCalipers() {
    const isOn = !this.isMeasuring;
    this.find("calipers").setAttribute("aria-pressed", isOn);
    this.canvas.classList.toggle("measuring", isOn);
    this.corners = null;
    this.find("readout").textContent = isOn ? "Calipers: drag from one point to another." : "";
    if (!isOn) return this.draw();
    this.canvas.focus({ preventScroll: true });
  }

  moveCorner(time, y) {
    if (!this.corners) {
      const middle = { time: this.time(this.width / 2), y: this.level(0) / this.mm };
      this.corners = [middle, { ...middle }];
      this.active = 1;
    }
    const corner = this.corners[this.active];
    corner.time = Math.max(0, Math.min(this.seconds, corner.time + time));
    corner.y = Math.max(0, Math.min(this.height / this.mm, corner.y + y));
    this.measure();
  }

  onKey(event) {
    const far = event.shiftKey ? 10 : 1;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "+" || event.key === "=") this.zoomBy(1.25);
    else if (event.key === "-") this.zoomBy(0.8);
    else if (event.key === "c" && !event.ctrlKey && !event.metaKey) this.toggleCalipers();
    else if (this.isMeasuring && arrows) this.moveCorner(far * arrows[0] / this.data.rate, far * arrows[1] * 0.01 * this.gain);
    else if (this.isMeasuring && event.key === "Enter" && this.corners) { this.active = 1 - this.active; this.draw(); }
    else if (arrows && arrows[0]) this.moveTo(this.start + 0.2 * far * arrows[0]);
    else if (event.key === "Home") this.moveTo(0);
    else if (event.key === "End") this.moveTo(this.seconds);
    else return;
    event.preventDefault();
  }

  onDown(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = (e) => ({ x: e.clientX - box.left, y: e.clientY - box.top });
    const from = at(event), start = this.start;
    this.canvas.setPointerCapture(event.pointerId);
    if (this.isMeasuring) {
      const corner = { time: this.time(from.x), y: from.y / this.mm };
      this.corners = [corner, { ...corner }];
      this.active = 1;
      this.measure();
    }
    this.canvas.onpointermove = (moved) => {
      const to = at(moved);
      if (!this.isMeasuring) return this.moveTo(start - (to.x - from.x) / this.perSecond);
      this.corners[1] = { time: this.time(to.x), y: to.y / this.mm };
      this.measure();
    };
    this.canvas.onpointerup = this.canvas.onpointercancel = () => { this.canvas.onpointermove = null; };
  }

  listen() {
    const { canvas, find } = this;
    for (const name of ["speed", "gain"]) find(name).onchange = () => { this.corners = null; this.draw(); };
    for (const name of ["peaks", "bounds"]) find(name).onchange = () => this.draw();
    find("calipers").onclick = () => this.toggleCalipers();
    find("in").onclick = () => this.zoomBy(1.25);
    find("out").onclick = () => this.zoomBy(0.8);
    find("reset").onclick = () => { this.reset(); this.draw(); };
    find("position").oninput = (event) => this.moveTo(Number(event.target.value));
    canvas.onkeydown = (event) => this.onKey(event);
    canvas.onpointerdown = (event) => this.onDown(event);
    canvas.onpointerenter = () => this.draw(); // in the colours of the present theme
    canvas.addEventListener("wheel", (event) => {
      if (event.ctrlKey) this.zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.offsetX);
      else if (event.deltaX || event.shiftKey) this.moveTo(this.start + (event.deltaX || event.deltaY) / this.perSecond);
      else return;
      event.preventDefault();
    }, { passive: false });
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(find("view"));
  }
}

export default function ({ data, parentElement }) {
  if (!charts.has(parentElement)) charts.set(parentElement, new Chart(parentElement));
  charts.get(parentElement).update(data);
}
