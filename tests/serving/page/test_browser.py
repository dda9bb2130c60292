"""The page in a real browser: every format, the calipers, twenty sessions, the keyboard, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import ecg_formats as formats
import numpy as np
import pytest
from page_files import FILES, RATE, demo_signal
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from ecgkit import cli
from ecgkit.signals.rhythm import r_peaks
from ecgkit.sources.demo import make_ecg

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]


class Server(NamedTuple):
    address: str
    pid: int
    folder: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the page by its command, in an empty folder that is also its home and its place for temporary files."""
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(cli.__file__).parents[2]
    places = {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(root),
        "NUMBA_CACHE_DIR": str(root / "build"),
    }
    command = [sys.executable, "-m", "ecgkit", "app", "--port", str(port), "--root", str(folder)]
    process = subprocess.Popen(command, cwd=folder, env=os.environ | places, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline() if process.stdout else ""
    address = re.search(r"http://\S+", line)
    assert address, "the command did not print its address"
    yield Server(address[0], process.pid, folder)
    process.terminate()
    process.communicate(timeout=20)


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "SEVERE"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def wait(browser: webdriver.Chrome, until: Callable[[webdriver.Chrome], object], seconds: float = 60) -> object:
    return WebDriverWait(browser, seconds, ignored_exceptions=None).until(until)


def visit(browser: webdriver.Chrome, server: Server, width: int = 1280, height: int = 1000) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(server.address)
    wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "input[type=file]"))


def send_files(browser: webdriver.Chrome, folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    browser.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys("\n".join(str(folder / name) for name in files))


def settle(browser: webdriver.Chrome) -> None:
    """Wait until the script of the session has ended."""
    time.sleep(0.3)
    wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "[data-test-script-state=notRunning]"))


def click(browser: webdriver.Chrome, element: WebElement) -> None:
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def labels_table(browser: webdriver.Chrome) -> str:
    """Return the text of the table of labels, empty while there is none."""
    found = "[...document.querySelectorAll('caption')].filter(c => c.textContent.startsWith('Calibrated'))"
    return str(browser.execute_script(f"return {found}.map(c => c.parentElement.textContent).join(' ')"))


def probabilities(browser: webdriver.Chrome) -> list[float]:
    wait(browser, labels_table)
    settle(browser)
    return [float(number) for number in re.findall(r"(\d\.\d{3}), threshold", labels_table(browser))]


def chart(browser: webdriver.Chrome) -> WebElement:
    """Return the root of the chart."""
    canvases = "[...document.querySelectorAll('*')].map(e => e.shadowRoot?.querySelector('canvas')).filter(c => c)"
    wait(browser, lambda b: b.execute_script(f"return {canvases}[0]?.dataset.perSecond"))
    settle(browser)
    root: WebElement = browser.execute_script(f"return {canvases}[0].closest('.ecg')")
    return root


def choose(browser: webdriver.Chrome, source: str) -> None:
    radios = [e for e in browser.find_elements(By.CSS_SELECTOR, "[role=radiogroup] label") if e.text == source]
    radios[0].click()


@pytest.mark.parametrize("name", FILES)
def test_each_format_gets_the_probabilities_of_the_command(
    name: str, chromium: webdriver.Chrome, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    visit(chromium, server)
    send_files(chromium, tmp_path, FILES[name])
    shown = probabilities(chromium)
    first = next(file for file in FILES[name] if not file.endswith(".dat"))
    assert cli.main(["predict", str(tmp_path / first), "--format", "json"]) == 0
    row = json.loads(capsys.readouterr().out)
    wanted = [entry["probability"] for entry in row["classes"]]
    assert shown == pytest.approx(wanted, abs=0.00051)
    assert not [entry for entry in chromium.get_log("browser") if "favicon" not in entry["message"]]


def test_a_text_file_is_refused(chromium: webdriver.Chrome, server: Server, tmp_path: Path) -> None:
    visit(chromium, server)
    send_files(chromium, tmp_path, {"letter.txt": b"Dear doctor"})
    alerts = "[data-testid=stAlertContentError]"
    wait(chromium, lambda b: b.find_elements(By.CSS_SELECTOR, alerts))
    assert "letter.txt" in chromium.find_element(By.CSS_SELECTOR, alerts).text
    assert labels_table(chromium) == ""


def test_the_calipers_read_an_rr_interval_and_a_voltage(
    chromium: webdriver.Chrome, server: Server, tmp_path: Path
) -> None:
    visit(chromium, server)
    send_files(chromium, tmp_path, FILES["WFDB"])
    root = chart(chromium)
    canvas, readout = (root.find_element(By.CSS_SELECTOR, name) for name in ("canvas", ".readout"))
    click(chromium, root.find_element(By.CSS_SELECTOR, ".calipers"))
    chromium.execute_script("arguments[0].scrollIntoView({block: 'start', behavior: 'instant'})", canvas)
    times = r_peaks(demo_signal(), sampling_rate=RATE)[1:3] / RATE
    per_second, per_millivolt = (
        float(canvas.get_dom_attribute(f"data-{name}")) for name in ("per-second", "per-millivolt")
    )
    assert per_second == pytest.approx(25 * 96 / 25.4)
    assert per_millivolt == pytest.approx(10 * 96 / 25.4)
    box = canvas.rect
    x, y = [round(time * per_second - box["width"] / 2) for time in times], round(200 - box["height"] / 2)
    down = round(0.5 * per_millivolt)
    drag = ActionChains(chromium).move_to_element_with_offset(canvas, x[0], y + down).click_and_hold()
    drag.move_to_element_with_offset(canvas, x[1], y).release().perform()
    ms, mv = (float(number) for number in re.findall(r"(-?[\d.]+) m[sV]", readout.text))
    assert ms == pytest.approx(1000 * np.diff(times)[0], abs=1000 / per_second * 1.5)
    assert mv == pytest.approx(0.5, abs=1.5 / per_millivolt)


def test_the_calipers_and_the_chart_work_from_the_keyboard(
    chromium: webdriver.Chrome, server: Server, tmp_path: Path
) -> None:
    visit(chromium, server, width=800)
    send_files(chromium, tmp_path, FILES["WFDB"])
    root = chart(chromium)
    canvas, readout = (root.find_element(By.CSS_SELECTOR, name) for name in ("canvas", ".readout"))
    per_second = float(canvas.get_dom_attribute("data-per-second"))
    canvas.send_keys("+")
    assert float(canvas.get_dom_attribute("data-per-second")) == pytest.approx(1.25 * per_second)
    canvas.send_keys(Keys.END)
    width = canvas.rect["width"]
    assert float(canvas.get_dom_attribute("data-start")) == pytest.approx(10 - width / per_second / 1.25, abs=0.05)
    canvas.send_keys(Keys.HOME + "c" + Keys.ARROW_RIGHT * 50 + Keys.ARROW_UP * 30)
    assert "100 ms" in readout.text
    assert "0.30 mV" in readout.text
    canvas.send_keys(Keys.ENTER + Keys.ARROW_LEFT * 25)
    assert "150 ms" in readout.text
    assert "R peaks at" in (canvas.get_dom_attribute("aria-label") or "")


def test_speed_gain_and_leads_can_be_chosen(chromium: webdriver.Chrome, server: Server, tmp_path: Path) -> None:
    visit(chromium, server)
    send_files(chromium, tmp_path, FILES["WFDB"])
    root = chart(chromium)
    canvas = root.find_element(By.CSS_SELECTOR, "canvas")
    before = {name: float(canvas.get_dom_attribute(f"data-{name}")) for name in ("per-second", "per-millivolt")}
    height = canvas.rect["height"]
    root.find_element(By.CSS_SELECTOR, ".speed option[value='50']").click()
    root.find_element(By.CSS_SELECTOR, ".gain option[value='20']").click()
    after = {name: float(canvas.get_dom_attribute(f"data-{name}")) for name in before}
    assert after == pytest.approx({name: 2 * value for name, value in before.items()})
    root.find_element(By.CSS_SELECTOR, ".gain option[value='10']").click()
    root.find_element(By.CSS_SELECTOR, "summary").click()
    for box in root.find_elements(By.CSS_SELECTOR, ".leads input")[2:]:
        box.click()
    assert canvas.rect["height"] < 0.4 * height


def test_every_field_has_a_name_and_a_phone_needs_no_scrolling_sideways(
    chromium: webdriver.Chrome, server: Server, tmp_path: Path
) -> None:
    visit(chromium, server, width=390, height=844)
    choose(chromium, "Demo generator")
    probabilities(chromium)
    root = chart(chromium)
    fields = [*chromium.find_elements(By.CSS_SELECTOR, "input, select, button"),
              *root.find_elements(By.CSS_SELECTOR, "input, select, button, canvas")]  # fmt: skip
    nameless = [field.get_dom_attribute("outerHTML") or field.tag_name for field in fields
                if field.is_displayed() and not field.accessible_name]  # fmt: skip
    assert nameless == []
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 390
    texts = "[...document.querySelectorAll('table, [data-testid=stMarkdown]')]"
    assert chromium.execute_script(f"return {texts}.filter(e => e.scrollWidth > 390).length") == 0


def test_twenty_sessions_at_once_get_their_own_answers(
    chromium: webdriver.Chrome, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = [["NORM"], ["MI"], ["STTC"], ["CD"], ["HYP"]]
    for number in range(20):
        signal = np.rint(make_ecg(classes[number % 5], seed=number).signal.astype(np.float64) / 0.005) * 0.005
        (tmp_path / f"{number}.edf").write_bytes(formats.edf(signal, RATE))
    first = chromium.current_window_handle
    tabs = []
    for number in range(20):
        chromium.switch_to.new_window("tab")
        tabs.append(chromium.current_window_handle)
        visit(chromium, server)
        chromium.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(tmp_path / f"{number}.edf"))
    start = time.monotonic()
    shown = []
    for tab in tabs:
        chromium.switch_to.window(tab)
        shown.append(probabilities(chromium))
    assert time.monotonic() - start < 60
    files = [str(tmp_path / f"{number}.edf") for number in range(20)]
    assert cli.main(["predict", *files, "--format", "json", "--no-measurements"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    wanted = [[entry["probability"] for entry in row["classes"]] for row in rows]
    np.testing.assert_allclose(shown, wanted, atol=0.00051)
    for tab in tabs:
        chromium.switch_to.window(tab)
        chromium.close()
    chromium.switch_to.window(first)


def remote_addresses(pid: int) -> set[str]:
    """Return where the sockets of a process lead to, without this computer; hexadecimal, as Linux has it."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = str(link.readlink()) if link.is_symlink() else ""
        inodes |= set(re.findall(r"socket:\[(\d+)\]", target))
    rows = [line.split() for name in ("tcp", "tcp6", "udp", "udp6")
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]  # fmt: skip
    remote = {row[2].rpartition(":")[0] for row in rows if row[9] in inodes}
    return {place for place in remote if place.strip("0") and not place.endswith(("0100007F", "01000000"))}


def test_an_upload_leaves_no_file_and_opens_no_connection(
    chromium: webdriver.Chrome, server: Server, tmp_path: Path
) -> None:
    visit(chromium, server)
    send_files(chromium, tmp_path, FILES["DICOM"])
    probabilities(chromium)
    chart(chromium)
    for kind in ("PDF", "PNG", "CSV"):
        click(chromium, next(e for e in chromium.find_elements(By.TAG_NAME, "button") if e.text == kind))
    assert remote_addresses(server.pid) == set()
    secret = FILES["DICOM"]["h.dcm"][2000:2600]
    written = [path for path in server.folder.rglob("*") if path.is_file()]
    assert [path for path in written if secret in path.read_bytes()] == []
    assert [path for path in server.folder.iterdir() if path.name.startswith("ecgkit-")] == []
    others = {path.relative_to(server.folder).parts[0] for path in written}
    assert others <= {".streamlit", ".cache", ".config", "matplotlib"}
