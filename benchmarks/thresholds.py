"""Is a row's lead that of its masks, or of the cut at one half?  IoU of finished runs at other cuts; nothing is trained.

    python benchmarks/thresholds.py --profile laptop

Masks are cut at 1 - phi >= 0.5 everywhere else, as the paper has it.  Here every row of Table 1 is cut at the thresholds of
`CUTS`, all its pictures at the same one.  The last columns choose each row's best threshold by the truth, which no training
and no table does: they say what a threshold of its own could do for a row at most.

Printed as Markdown: means over classes with 95 % intervals, and paired differences between the rows at their best cuts.
"""

import argparse

import numpy as np

from bipartition.evaluation import class_mean, foreground_overlap, interval, object_truth, paired_difference
from bipartition.finished import finished_folders
from bipartition.profiles import profile_or
from bipartition.rows import ROWS, TABLE_ROWS, table_classes
from bipartition.tables import scored_classes, two

CUTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def main() -> None:
    """One profile's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="laptop")
    profile = profile_or(parser.error, parser.parse_args().profile)
    dataset = profile.sets["table1"]
    prepared = profile.prepared(dataset)
    classes = scored_classes(dataset, prepared)
    counted = np.flatnonzero(np.isin(classes, table_classes(classes)))
    folders, _ = finished_folders(profile, dataset, prepared.checksum, TABLE_ROWS)
    objects, void = object_truth(prepared.split("val").masks[counted])
    found = {row: {seed: ious_at_cuts(np.load(folder / "masks.npy")[counted], objects, void)
                   for seed, folder in by_seed.items()}
             for row, by_seed in folders.items() if by_seed}
    if not found:
        parser.exit(1, f"error: the profile {profile.name} has no finished run on {dataset}; make some with: make train "
                       f"PROFILE={profile.name}\n")
    print(report(found, classes[counted]))


def ious_at_cuts(foreground_masks: np.ndarray, objects: np.ndarray, void: np.ndarray) -> np.ndarray:
    """Foreground IoU of each picture at each of `CUTS`, shape (cuts, N).

    Parameters
    ----------
    foreground_masks : ndarray of uint8, shape (N, S, S)
        ``round(255 (1 - phi))``
    objects, void : ndarray of bool, shape (N, S, S)
        The truth; every picture has an object.
    """
    pairs = (foreground_overlap(foreground_masks >= round(255 * cut), objects, void) for cut in CUTS)
    return np.stack([overlap / union for overlap, union in pairs])


def report(found: dict[str, dict[int, np.ndarray]], classes: np.ndarray) -> str:
    """Both tables, from `ious_at_cuts` by row and seed and the class of each picture."""
    lines = [f"| row | seeds | {' | '.join(map(str, CUTS))} | best cut | IoU there |", "|---|" + "---:|" * (len(CUTS) + 3)]
    best: dict[str, int] = {}
    for row, by_seed in found.items():
        at_cuts = np.stack(list(by_seed.values()), axis=1)  # cuts, seeds, pictures
        means = [class_mean(one, classes) for one in at_cuts]
        best[row] = int(np.argmax(means))
        there = interval(at_cuts[best[row]], classes)
        lines.append(f"| {ROWS[row].title} | {len(by_seed)} | {' | '.join(map(two, means))} | {CUTS[best[row]]} | "
                     f"{two(there.mean)} [{two(there.low)}, {two(there.high)}] |")
    lines += ["", "| difference, paired | seeds | both cut at 0.5 | each at its best |", "|---|---:|---:|---:|"]
    names = list(found)
    for other, row in ((other, row) for place, other in enumerate(names) for row in names[place + 1:]):
        seeds = sorted(found[row].keys() & found[other].keys())
        if not seeds:
            continue
        cells = []
        for cut, its in ((CUTS.index(0.5), CUTS.index(0.5)), (best[row], best[other])):
            one = paired_difference(np.stack([found[row][seed][cut] for seed in seeds]),
                                    np.stack([found[other][seed][its] for seed in seeds]), classes)
            cells.append(f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]")
        lines.append(f"| {ROWS[row].title} minus {ROWS[other].title} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
