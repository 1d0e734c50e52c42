"""First fit over falling sizes, on distinct sizes instead of items."""

from __future__ import annotations

from packer.algorithms.groups import fill_groups, largest_first, shares
from packer.algorithms.instance import Instance, Patterns


def first_fit_decreasing(instance: Instance) -> Patterns:
    """Each item, largest first, into the pack opened first among those with room; the same plan as item by item.

    Largest: by the largest share of the capacity over the dimensions, ties by the sum of the shares (both in units of
    2^-24, rounded down), then by need, dimension by dimension.
    Time O(sizes^2 * dims), whatever the counts. No randomness. Source: Johnson et al., SIAM J. Comput. 3(4), 1974.
    """
    share = shares(instance.need, instance.capacity)
    return fill_groups(instance, largest_first(instance.need, share.max(axis=1, initial=0), share.sum(axis=1)))
