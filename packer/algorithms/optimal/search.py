"""The portfolio: one budget, one incumbent, one bound; every step improves one of the two."""

from __future__ import annotations

import math
from typing import Callable, Sequence

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Patterns
from packer.algorithms.optimal.anneal import anneal
from packer.algorithms.optimal.column_generation import PatternLP
from packer.algorithms.optimal.columns import joined, to_patterns
from packer.algorithms.optimal.cpsat import choose_whole
from packer.algorithms.optimal.dive import dive
from packer.algorithms.optimal.greedy import greedy_plans, repeated_plans
from packer.algorithms.optimal.lift import lifted_bound
from packer.algorithms.optimal.params import PARAMS
from packer.algorithms.optimal.presolve import Presolved
from packer.algorithms.optimal.price_tree import TreePricer
from packer.algorithms.optimal.prove import Proof, proofs_of
from packer.algorithms.optimal.rounding import fill_up, fix_whole, rest_of
from packer.algorithms.optimal.sample import repeated, sampled_patterns
from packer.certificate import Certificate, volume_certificate

Progress = Callable[[int, int, float], None]


class Search:
    """One run: the best plan (over the inner instance) and the best certificate (of the outer one) so far."""

    def __init__(self, reduced: Presolved, budget: Budget, seed: int, progress: Progress | None) -> None:
        self.instance = reduced.inner
        self.budget = budget
        self.plan: Patterns | None = None
        self.packs = 1 << 62
        outer = reduced.outer
        self.certificate = volume_certificate(outer.need, outer.capacity, outer.count)
        self._reduced, self._progress = reduced, progress
        self._told = 0.0
        budget.when_spending = self._tell_sometimes
        self._random = np.random.default_rng(seed)
        self._rounds = 0
        self._few = self.instance.num_items <= PARAMS.most_annealed
        self._very_few = self.instance.num_items <= PARAMS.most_chosen

    @property
    def bound(self) -> int:
        return self.certificate.bound

    @property
    def proven(self) -> bool:
        return self.packs <= self.bound

    @property
    def done(self) -> bool:
        return self.proven or self.budget.spent

    def offer(self, plan: Patterns | None) -> None:
        """Keep the plan if it is the best so far."""
        if plan is not None and plan.num_packs < self.packs:
            self.plan, self.packs = plan, plan.num_packs
            self._tell()

    def state(self, certificate: Certificate | None) -> None:
        """Keep the certificate if it proves more than the one so far."""
        if certificate is not None and certificate.bound > self.bound:
            self.certificate = certificate
            self._tell()

    def _tell(self) -> None:
        if self._progress is not None and self.plan is not None:
            self._told = self.budget.seconds
            self._progress(self.packs, self.bound, self._told)

    def _tell_sometimes(self) -> None:
        if self.budget.seconds - self._told >= PARAMS.tell_every:
            self._tell()

    def run(self, start: Sequence[Patterns]) -> None:
        """Improve the plan and the bound until they meet or the budget is spent."""
        for plan in start:
            self.offer(plan)
        if not len(self.instance.need):
            self.plan, self.packs = to_patterns([]), self.bound  # nothing that could overflow: one pack, or none
            return
        plans = self._first_plans()
        for plan in plans:
            self.offer(plan)
        if self.done:
            return
        proofs = proofs_of(self._reduced, plans, self._seed())
        if self.instance.num_items <= PARAMS.sampled:
            self._anneal_first(quick=bool(proofs) and not proofs[0].slow)
        if not self.done:
            self.state(lifted_bound(self._reduced, self.bound, self.budget))
        if self.instance.num_items <= PARAMS.sampled:
            for proof in proofs:
                if proof.plans_alike and self.plan is not None:
                    proof.add(self.plan)
        if self.done:
            return
        for turn in range(1000):
            work = PARAMS.first_work * 2.0 ** (turn // 2)
            self._sample(proofs, turn, work / 2)
            self._prove(proofs, turn, 4 * work, PARAMS.proving_share)
            # The last closed one has the fewest improper patterns.
            lps = [(proof.lp.closed, proof.lp) for proof in proofs if proof.lp is not None and proof.plans_alike]
            best = [lp for closed, lp in lps if closed][-1:] + [lp for _, lp in lps][:1]
            self._improve(best[0] if best else None, turn, work)
            # Steps that find nothing to do cost nothing, so that a turn has a price of its own.
            if self.done or not self.budget.spend(0.01 * work):
                return

    def _first_plans(self) -> list[Patterns]:
        """The greedy plans, the fewest packs first; of many items in lowest terms, so that the LP starts alike."""
        seconds = max(PARAMS.greedy_seconds, PARAMS.greedy_share * self.budget.time_limit)
        return (greedy_plans if self._few else repeated_plans)(self.instance, seconds, self.budget.clock())

    def _anneal_first(self, quick: bool) -> None:
        """Anneal all items: often that is all it takes. quick: the LP is, and comes next."""
        work = PARAMS.first_work * (0.2 if quick else 0.4 if self._very_few else 2.0)
        for heat in PARAMS.heats[:1] if quick else PARAMS.heats:
            before = self.packs
            self._anneal(self.bound, work, heat)
            if self.done or self.packs in (before, self.bound + 1):
                return  # so near, or no nearer: first see whether the bound is too low

    def find_bound(self) -> None:
        """Improve the bound alone."""
        if not len(self.instance.need):
            return
        plans = self._first_plans()
        self.offer(plans[0])
        if not self.done:
            self.state(lifted_bound(self._reduced, self.bound, self.budget))
        proofs = [] if self.proven else proofs_of(self._reduced, plans, self._seed())
        turn = 0
        while not self.done and any(proof.open for proof in proofs):
            self._sample(proofs, turn, PARAMS.first_work)
            self._prove(proofs, turn, 2.0**turn)
            turn += 1

    def _sample(self, proofs: Sequence[Proof], turn: int, work: float) -> None:
        """Patterns of an annealed sample for the proofs that find their own slowly."""
        due = [proof for proof in proofs if turn >= proof.first_turn and not proof.closed]
        slow = [proof for proof in due if proof.slow and proof.plans_alike]
        if slow and not self.done and self.instance.num_items > PARAMS.sampled:
            plan = sampled_patterns(self.instance, self.bound, self.budget.part(work), self._seed(), PARAMS.sample_heat)
            self.offer(repeated(self.instance, plan))
            for proof in slow:
                proof.add(plan)

    def _prove(self, proofs: Sequence[Proof], turn: int, work: float, until: float = 1.0) -> None:
        """One turn of every proof whose time has come, no later than `until` of the time limit."""
        for proof in proofs:
            budget = self.budget.part(work, until)
            if proof.open and not self.done and turn >= proof.first_turn and not budget.spent:
                self.state(proof.run(self.packs, budget))
                if proof.open and proof.alone:
                    return

    def _improve(self, lp: PatternLP | None, turn: int, work: float) -> None:
        """One turn of everything that may find a better plan."""
        heat = PARAMS.heats[turn % len(PARAMS.heats)]
        if lp is not None and self._very_few:
            self._dive(lp, self.bound, work)
        if self._few:
            self._anneal(self.bound, work, heat)
        if lp is not None:
            self._round(lp, work, PARAMS.heats[self._rounds % len(PARAMS.heats)])
        if lp is not None and self._very_few:
            self._dive(lp, self.packs - 1, work)
        if lp is not None and (lp.closed or self._very_few):
            self._choose(lp, PARAMS.reach << min(turn, 20), work)
        if self._few and self.packs > self.bound + 1:
            self._anneal((self.bound + self.packs) // 2, work, heat)

    def _seed(self) -> int:
        return int(self._random.integers(1 << 30))

    def _anneal(self, packs: int, work: float, heat: float) -> None:
        if packs < self.packs and not self.done:
            assert self.plan is not None
            self.offer(anneal(self.instance, self.plan, packs, self.budget.part(work), self._seed(), heat))

    def _round(self, lp: PatternLP, work: float, heat: float) -> None:
        """Fix the whole part of the LP solution, or a part of it, and anneal the rest."""
        if self.done:
            return
        fixed, left = fix_whole(self.instance, lp, self._kept(lp))
        final = lp.closed or math.isinf(lp.objective)
        least = self.bound if final else max(self.bound, math.ceil(lp.objective))
        packs = least - fixed.num_packs
        if (left @ self.instance.need > packs * self.instance.capacity).any():
            fixed, left = fill_up(self.instance, fixed, left)
        rest, ids = rest_of(self.instance, left)
        if not len(ids):
            self.offer(fixed)
            return
        plan = greedy_plans(rest)[0]
        self.offer(joined(fixed, plan, ids))
        for share in (PARAMS.quick_share, 1.0):
            if 0 < packs < self.packs - fixed.num_packs and rest.num_items <= PARAMS.most_annealed and not self.done:
                annealed = anneal(rest, plan, packs, self.budget.part(share * work), self._seed(), heat)
                if annealed is not None:
                    self.offer(joined(fixed, annealed, ids))

    def _kept(self, lp: PatternLP) -> np.ndarray:
        """How much of the whole part of the LP solution to fix this time, float64 [columns].

        A small rest is the easiest to get right, but where there is no space to spare it takes a larger one.
        """
        integral = np.floor(lp.use + 1e-6)
        free = self._rounds % 2 * PARAMS.let_go * 2 ** min(self._rounds // 2, 30)
        free *= (lp.use.sum() - integral.sum()) / max(integral.sum(), 1.0)
        self._rounds += lp.closed
        share, chance = self._random.random((2, len(integral)))
        released = np.floor(np.minimum(integral, 2.0 * free * share * integral + chance))
        return 1.0 - released / np.maximum(integral, 1.0)

    def _dive(self, lp: PatternLP, packs: int, work: float) -> None:
        if packs < self.packs and not self.done:
            self.offer(dive(self.instance, lp, TreePricer, packs, self.budget.part(work), self._seed()))

    def _choose(self, lp: PatternLP, reach: int, work: float) -> None:
        if self.done:
            return
        integral = choose_whole(self.instance, lp, self.packs - 1, reach, self.budget.part(work), self._seed())
        if integral is not None:
            plan, left = fix_whole(self.instance, integral, np.ones(len(integral.use)))
            if not left.any():
                self.offer(plan)
