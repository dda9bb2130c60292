"""What the notebook shows of a run that takes more than one call: cards of clusters, the map to walk around in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ecgkit import plots
from ecgkit.feature_space.clusters import ClusterCard, Clusters, cluster_positions
from ecgkit.feature_space.maps import Projection, quality_notes
from ecgkit.feature_space.maps.interactive import lead_signals, predicted_probabilities, write_interactive_map
from ecgkit.feature_space.parallel import record_beats
from ecgkit.feature_space.probes.by_layer import ALL_TOGETHER
from ecgkit.feature_space.run import FeatureSpaceRun
from ecgkit.feature_space.similar import describe_record
from ecgkit.io import file_name
from ecgkit.signals.beats import MeanBeats, beat_times, group_beats
from ecgkit.stats.folds import TEST_FOLD

MAP_COLUMNS = ("age", "sex", "height", "weight", "bmi", "heart_rate", "device", "site", "cluster")


class FoldBeats:
    """The mean beats of the records of fold 10, computed once for all groups that are asked for.

    Parameters
    ----------
    run : FeatureSpaceRun
        Whose records.
    """

    def __init__(self, run: FeatureSpaceRun) -> None:
        self.run = run
        self.rows = np.flatnonzero((run.records["fold"] == TEST_FOLD).to_numpy())
        self.times = beat_times(run.dataset.sampling_rate)
        self.of_records = record_beats(run.dataset, run.positions[self.rows])

    def of_groups(self, groups: Mapping[str, NDArray[np.integer]], reference: str | None = None) -> MeanBeats:
        """Average the beats of groups, given by the rows of ``run.records`` that they hold, of fold 10."""
        rows = {name: np.searchsorted(self.rows, members) for name, members in groups.items()}
        patients = self.run.records["patient_id"].to_numpy()[self.rows]
        return group_beats(self.of_records, rows, patients, times=self.times, reference=reference)

    def along(self, table: pd.DataFrame, name: str) -> MeanBeats:
        """Average the beats of the groups that `concepts.along_direction` cut, from the low end to the high."""
        groups = {
            f"{name} {number + 1}": table.loc[table["group"] == number, "row"].to_numpy()
            for number in sorted(table["group"].unique())
        }
        return self.of_groups(groups)

    def of_classes(self) -> MeanBeats:
        """Average the beats of each class, and take their difference from NORM, if there is such a class."""
        carried = self.run.labels.iloc[self.rows].astype(bool)
        groups = {str(name): self.rows[carried[name].to_numpy()] for name in carried}
        return self.of_groups(groups, reference="NORM" if "NORM" in groups else None)


def save_cluster_cards(
    run: FeatureSpaceRun, cards: Sequence[ClusterCard], clusters: Clusters, fold_beats: FoldBeats
) -> Figure:
    """Draw the card of each cluster, save them in the session's figures, and give the first, of the largest cluster.

    Parameters
    ----------
    run : FeatureSpaceRun
        The session.
    cards : sequence of ClusterCard
        The facts.
    clusters : Clusters
        The clusters.
    fold_beats : FoldBeats
        The mean beats of fold 10.

    Returns
    -------
    Figure
    """
    mean_beats = fold_beats.of_groups(cluster_positions(clusters, run.records))
    figures = []
    for card in cards:
        strips = run.signals(card.nearest["position"].to_numpy())
        beats = mean_beats if card.name in mean_beats.groups else None
        figure = plots.cluster_card(card, beats=beats, strips=strips, sampling_rate=run.dataset.sampling_rate)
        figures.append(run.session.save_figure(figure, file_name(card.name), "figures/cluster_cards"))
    return figures[0]


def save_class_beats(run: FeatureSpaceRun, classes: MeanBeats) -> Figure:
    """Draw each class beside the reference and save that in the session's figures, then give a figure of all.

    Parameters
    ----------
    run : FeatureSpaceRun
        The session.
    classes : MeanBeats
        As `FoldBeats.of_classes` gives them.

    Returns
    -------
    Figure
    """
    for name in classes.groups:
        if classes.reference not in {None, name}:
            figure = plots.beat_difference(classes, name)
            run.session.save_figure(figure, file_name(f"beats_{name}"), "figures/class_beats")
    return run.session.save_figure(plots.beat_grid(classes), "class_beats")


def write_map(
    run: FeatureSpaceRun, projections: Sequence[Projection], quality: pd.DataFrame, shown: pd.DataFrame
) -> Path:
    """Write the interactive map of fold 10 into the session.

    Parameters
    ----------
    run : FeatureSpaceRun
        The session.
    projections : sequence of Projection
        Maps of fold 10.
    quality : DataFrame
        As `ecgkit.feature_space.maps.map_quality` gives it.
    shown : DataFrame
        The records with the columns to colour by, one row for each of ``run.records``.

    Returns
    -------
    Path
        ``map.html``.
    """
    positions = run.positions[projections[0].positions]
    return write_interactive_map(
        run.session.path / "map.html",
        projections,
        shown,
        run.labels,
        lead_signals(run.dataset, positions),
        sampling_rate=run.dataset.sampling_rate,
        probabilities=probabilities(run),
        thresholds=run.thresholds(),
        notes=quality_notes(quality),
        columns=MAP_COLUMNS,
        title=f"{run.name}: map of fold 10",
    )


def draw_ends(run: FeatureSpaceRun, ends: pd.DataFrame, name: str) -> Figure:
    """Draw the records at the two ends of a direction.

    Parameters
    ----------
    run : FeatureSpaceRun
        The session.
    ends : DataFrame
        As `ecgkit.feature_space.concepts.records_at_ends` gives it.
    name : str
        What the direction is of.

    Returns
    -------
    Figure
    """
    titles = []
    for row, end, position in zip(ends["row"], ends["end"], ends["position"], strict=True):
        who = describe_record(run.records.iloc[int(row)], run.labels.iloc[int(row)])
        titles.append(f"{end} end of {name}, {position:+.1f} standard deviations\n{who}")
    return plots.ecg_strips(run.signals(ends["row"].to_numpy()), titles, sampling_rate=run.dataset.sampling_rate)


def probabilities(run: FeatureSpaceRun) -> pd.DataFrame:
    """Give what the model gives each class, one row for each of ``run.records``; NaN outside folds 9 and 10."""
    return predicted_probabilities(run.predictions(), run.records, run.dataset.classes)


def with_all_layers(layers: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Add all layers side by side as the last one; nothing where there are no layers."""
    return dict(layers) | ({ALL_TOGETHER: np.concatenate(list(layers.values()), axis=1)} if layers else {})
