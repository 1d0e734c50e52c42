"""What a packing promises, checked in Python integers."""

from __future__ import annotations

from packer.algorithms.instance import Instance, Patterns


def check_patterns(instance: Instance, patterns: Patterns) -> None:
    """The promises of `Patterns`, and each item exactly once within capacity; in Python integers."""
    placed = [0] * len(instance.need)
    seen = set()
    for pattern, number in enumerate(patterns.counts.tolist()):
        size_ids, multiplicity = (part.tolist() for part in patterns[pattern])
        assert number > 0 and size_ids and min(multiplicity) > 0
        assert size_ids == sorted(set(size_ids))
        seen.add((tuple(size_ids), tuple(multiplicity)))
        for dim, limit in enumerate(instance.capacity.tolist()):
            column = instance.need[:, dim].tolist()
            assert sum(column[size] * times for size, times in zip(size_ids, multiplicity, strict=True)) <= limit
        for size, times in zip(size_ids, multiplicity, strict=True):
            placed[size] += times * number
    assert placed == instance.count.tolist()
    assert len(seen) == len(patterns)
