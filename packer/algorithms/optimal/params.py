"""The settings of the solver, all of them. They change how soon a plan is proven, never whether a proof is right.

Work is counted in seconds of a nominal core, by steps that are counted; so equal seeds and work give equal plans.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchParams:
    """Defaults were chosen on the instances of `benchmarks/records` and the data sets behind them."""

    # --- work: what a counted step costs, in nominal seconds
    move_work: float = 1e-7
    """A move of annealing."""
    master_work: float = 2e-7
    """A simplex iteration of the master LP, for each row."""
    barrier_work: float = 100
    """An iteration of the interior point method, in simplex iterations."""
    cell_work: float = 5e-10
    """A cell of the pricing grid that is updated."""
    node_work: float = 3e-8
    """A node of the pricing tree."""
    lift_work: float = 1e-7
    """A size that is looked at for one whose price is raised."""

    # --- slices: steps between two looks at the clock, each well under 0.2 s
    moves_a_slice: int = 1_000_000
    """Moves of annealing."""
    cells_a_slice: int = 60_000_000
    """Cells of the pricing grid."""
    nodes_a_slice: int = 500_000
    """Nodes of the pricing tree."""
    tell_every: float = 1.0
    """Seconds after which progress is told though nothing has improved."""

    # --- turns: proofs and plans take turns, which grow until the budget ends
    first_work: float = 0.5
    """Work of a step in the first turn; it doubles every other turn, so that little is lost to a poor guess."""
    proving_share: float = 0.85
    """Of the time limit that may go into proofs; the rest is for plans from the last solution of the LP."""
    greedy_seconds: float = 0.2
    """What each of the slower greedy plans may take at least, in seconds of the clock."""
    greedy_share: float = 0.03
    """The same as a share of the time limit."""

    # --- column generation
    price_bits: int = 40
    """Bits of a price of 1, as an integer; more where there are so many items that what rounding takes off could add up
    to a pack."""
    columns_a_round: int = 80
    """Patterns that one round of pricing may add: more make the master slow, fewer make rounds many."""
    exchanges_a_size: int = 3
    """Nearest larger sizes that each size may stand in for, a column each: they keep the prices of sizes in their order
    and so save rounds."""
    smoothing: float = 0.6
    """Share of the best prices so far in those that are priced next (Wentges 1997), less where nothing is found."""
    most_item_bits: int = 21
    """Bits of the number of items, in lowest terms, up to which the LP counts in items; beyond, in a power of two of
    them, as the tolerances of LP solvers are absolute."""
    many_rows: int = 1_500
    """Rows of an LP above which the interior point method from nothing beats the simplex method from the last basis."""
    most_sizes: int = 5_000
    """Sizes of the largest LP, whose rows they are; an instance of more has none of its own."""
    most_cells: int = 6_000_000
    """Cells of the largest grid that is priced by dynamic programming, 8 bytes each; where it would be larger, the grid
    leaves dimensions out, and a tree is searched besides."""
    slow_round: float = 0.015
    """Work of pricing once above which patterns are sampled first, to save rounds."""
    check_effort: float = 0.3
    """Effort that a certificate may take to check, as a share of what the checker allows: no other is made."""
    patterns_a_search: int = 30
    """Patterns after which a search of the pricing tree ends: enough for a round."""
    levels: tuple[tuple[float, float], ...] = ((0.5, 0.05), (0.2, 0.05), (0.05, 0.1), (0.0, 1.0))
    """What patterns of the pricing tree must be worth, one level after the other: the share of the way from the floor
    to the bound at the root, and the share of the work. Where nothing is found far above, more is further down."""

    # --- lifted bounds
    most_lifted: int = 300
    """Sizes whose price is raised."""

    # --- whole numbers from the LP
    reach: int = 5
    """How far from the LP's solution whole numbers are looked for at first, in packs of a pattern; it doubles every
    turn."""
    swap_reach: int = 10
    """How much farther swaps may lie than patterns: they are of single items."""
    most_columns: int = 4_000
    """Columns of the largest CP-SAT model."""
    most_chosen: int = 1_000
    """Items of the largest instance that is dived into, and given to CP-SAT, whole."""
    fixed_a_step: float = 0.1
    """Share of the packs that one step of diving fixes where the LP has no whole ones."""
    seeds_a_step: int = 1_000
    """Columns of an LP, those of least reduced cost, that the next step of a dive starts from."""
    let_go: float = 0.5
    """Of the LP's solution the whole packs are kept, and what is left is packed anew. In every other round some of the
    whole ones are let go too: as many as this share of what was not whole, then twice as many, and so on."""

    # --- annealing
    most_annealed: int = 30_000
    """Items that are annealed at once; of more, the LP fixes most packs first."""
    moves_an_item: int = 50_000
    """Moves after which annealing ends though there is work left."""
    least_slices: int = 8
    """Temperatures that annealing falls through at least."""
    heats: tuple[float, ...] = (4.0, 16.0, 1.0)
    """First temperatures, in turn, in units of an overflow by one: so hot that all is shuffled before it cools."""
    cold: float = 0.02
    """The last temperature: nearly nothing that is worse is accepted."""
    quick_share: float = 0.1
    """Share of a turn's work that annealing of a rest may take at first, which often is enough."""
    sampled: int = 20_000
    """Items of a sample of a large instance, whose patterns serve the whole."""
    sampled_of_each: int = 4
    """Items of each size in a sample at least, where there are so many: patterns are wanted for the rare ones too."""
    sample_heat: float = 32.0
    """First temperature for a sample, which is no plan yet: hotter still."""


PARAMS = SearchParams()
"""What the solver runs with."""
