"""What set_epoch, load_state_dict and new iterators do to a loader's passes and its state; states that are none."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import poptorch_double
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from poptorch_double import Options
from small_packs import write_packs
from torch.utils.data import ConcatDataset, Subset, random_split

from packer import PackDataset, PackReader, numpy_loader, poptorch_loader, torch_loader
from packer.errors import StateError
from packer.reading.order import MOST, epoch_order
from pipelines.building.result import BuildResult

PACKS, SEED = 23, 3
STEPS = 12  # ceil(23 / 2)
KINDS = ("thin", "dataloader", "numpy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data") / "packs"
    write_packs(place, PACKS)
    return place


@pytest.fixture(scope="module")
def marks(folder: Path) -> dict[Any, int]:
    """The number of each pack by its targets."""
    reader = PackReader(folder)
    found = {mark(reader[number]): number for number in range(PACKS)}
    assert len(found) == PACKS
    return {**found, mark(reader.empty_pack()): -1}


def make(folder: Path, kind: str, **options: Any) -> Any:
    """A loader of one pack a step, not redrawn: packs are told by what they hold."""
    options = {"seed": SEED, "redraw": False, **options}
    if kind == "numpy":
        return numpy_loader(folder, **options)
    dataset = PackDataset(folder, columns=["y", "graphs_mask"])
    return torch_loader(dataset, layout="dict", as_dataloader=kind == "dataloader", **options)


def mark(step: Any) -> tuple[float, ...]:
    return tuple(step["y"].tolist())


def in_order(marks: dict[Any, int], steps: Any) -> list[int]:
    return [marks[mark(step)] for step in steps]


def epoch(folder: Path, number: int, seed: int = SEED) -> list[int]:
    manifest = PackReader(folder).manifest
    return epoch_order(PACKS, manifest.packs_per_block, seed, number).tolist()


def take(iterator: Iterator[Any], count: int, marks: dict[Any, int]) -> list[int]:
    return [marks[mark(next(iterator))] for _ in range(count)]


def at(loader: Any) -> tuple[int, int]:
    state = loader.state_dict()
    return state["epoch"], state["packs_seen"]


@pytest.mark.parametrize("kind", KINDS)
def test_set_epoch_during_a_pass_names_the_next_one(folder: Path, marks: dict[Any, int], kind: str) -> None:
    loader = make(folder, kind)
    running = iter(loader)
    seen = take(running, 4, marks)
    loader.set_epoch(5)
    assert at(loader) == (0, 4)
    seen += take(running, 3, marks)
    assert at(loader) == (0, 7)  # what was taken, before and after
    other = make(folder, kind)
    other.load_state_dict(loader.state_dict())
    assert seen + in_order(marks, other) == epoch(folder, 0)
    assert seen + in_order(marks, running) == epoch(folder, 0)
    assert at(loader) == (5, 0)
    assert in_order(marks, loader) == epoch(folder, 5)
    assert at(loader) == (6, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [0, 1, PACKS - 2, PACKS - 1])
def test_set_epoch_in_any_step_leads_to_that_epoch(folder: Path, marks: dict[Any, int], kind: str, step: int) -> None:
    loader = make(folder, kind)
    for number, _ in enumerate(loader):
        if number == step:
            loader.set_epoch(5)
    assert in_order(marks, loader) == epoch(folder, 5)
    for number, _ in enumerate(loader):  # of epoch 6: itself once more
        if number == step:
            loader.set_epoch(6)
    assert in_order(marks, loader) == epoch(folder, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_load_state_dict_during_a_pass_is_for_the_next_one(folder: Path, marks: dict[Any, int], kind: str) -> None:
    source = make(folder, kind, seed=8)
    source.set_epoch(2)
    left = iter(source)
    take(left, 9, marks)
    state = source.state_dict()

    loader = make(folder, kind)
    running = iter(loader)
    seen = take(running, 4, marks)
    loader.load_state_dict(state)
    assert at(loader) == (0, 4)
    seen += take(running, 1, marks)
    assert (loader.state_dict()["seed"], *at(loader)) == (SEED, 0, 5)
    assert seen + in_order(marks, running) == epoch(folder, 0)
    assert loader.state_dict() == state  # the next pass
    assert in_order(marks, loader) == epoch(folder, 2, seed=8)[9:]
    assert in_order(marks, loader) == epoch(folder, 3, seed=8)


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_after_a_pass_was_left_counts_at_once(folder: Path, marks: dict[Any, int], kind: str) -> None:
    loader = make(folder, kind)
    for number, _ in enumerate(loader):
        if number == 4:
            break
    state = loader.state_dict()
    assert at(loader) == (0, 5)  # where it was left
    loader.set_epoch(7)
    assert at(loader) == (7, 0)
    loader.load_state_dict(state)
    assert loader.state_dict() == state
    assert in_order(marks, loader) == epoch(folder, 0)[5:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_counts_from_its_first_step(folder: Path, marks: dict[Any, int], kind: str) -> None:
    loader = make(folder, kind)
    unused, running = iter(loader), iter(loader)
    assert at(loader) == (0, 0)
    seen = take(running, 3, marks)
    waiting = iter(loader)  # the next epoch begins: of the other no more counts
    assert seen == epoch(folder, 0)[:3] and at(loader) == (1, 0)
    take(running, 2, marks)
    assert at(loader) == (1, 0)
    assert take(waiting, 2, marks) == epoch(folder, 1)[:2] and at(loader) == (1, 2)
    assert in_order(marks, unused) == epoch(folder, 0)  # begun long ago, for what was then next


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_state_is_used_once(folder: Path, marks: dict[Any, int], kind: str) -> None:
    loader = make(folder, kind)
    loader.load_state_dict({**loader.state_dict(), "packs_seen": 20})
    running = iter(loader)
    loader.set_epoch(0)  # again, after that pass
    assert in_order(marks, running) == epoch(folder, 0)[20:]
    assert in_order(marks, loader) == epoch(folder, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_len_is_an_epoch_s_and_steps_left_is_exact(folder: Path, marks: dict[Any, int], kind: str) -> None:
    loader = make(folder, kind, batch_size=2)
    assert (len(loader), loader.steps_left) == (STEPS, STEPS)
    for taken, _ in enumerate(loader, 1):
        assert (len(loader), loader.steps_left) == (STEPS, STEPS - taken)
        if taken == 4:
            state = loader.state_dict()
    assert loader.steps_left == STEPS
    resumed = make(folder, kind, batch_size=2)
    resumed.load_state_dict(state)
    assert (len(resumed), resumed.steps_left) == (STEPS, STEPS - 4)
    assert len(list(resumed)) == STEPS - 4
    assert len(list(resumed)) == len(resumed) == resumed.steps_left


class Passes(RuleBasedStateMachine):
    """Any calls in any order, against a model: the passes begun, where the next one begins, whose place is shown."""

    folder: Path
    marks: dict[Any, int]
    kind: str

    @initialize(world=st.integers(1, 2))
    def start(self, world: int) -> None:
        self.world = world
        self.loader = make(self.folder, self.kind, rank=world - 1, world_size=world)
        self.begun: list[dict[str, Any]] = []
        self.next, self.named = (0, 0), ""
        self.shown: Any = None  # the pass whose place the state is
        self.saved: list[tuple[dict[str, Any], list[int]]] = []

    def rest(self, epoch_: int, seen: int) -> list[int]:
        order = epoch(self.folder, epoch_)[seen:]
        order += [-1] * (-len(order) % self.world)
        return order[self.world - 1 :: self.world]  # all places seen are multiples of the world

    @rule()
    def new_iterator(self) -> None:
        run = {"it": iter(self.loader), "from": self.next, "packs": self.rest(*self.next), "taken": 0, "used": False}
        self.begun.append(run)
        self.shown, self.named = run, ""

    def use(self, run: dict[str, Any]) -> None:
        if run["used"]:
            return
        run["used"], self.shown = True, run
        if not self.named:
            self.next = (run["from"][0] + 1, 0)
        elif self.named == "epoch":
            self.next = (self.next[0], 0)

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), steps=st.sampled_from([1, 1, 2, 5, 30]))
    def take(self, data: st.DataObject, steps: int) -> None:
        run = data.draw(st.sampled_from(self.begun))
        for _ in range(steps):
            step = next(run["it"], None)
            self.use(run)
            if step is None:
                assert run["taken"] == len(run["packs"])
                self.begun.remove(run)
                self.shown = None if self.shown is run else self.shown
                return
            assert self.marks[mark(step)] == run["packs"][run["taken"]]
            run["taken"] += 1

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.begun))
        self.begun.remove(run)
        run["it"] = None

    def name(self, what: str) -> None:
        self.named = what
        if self.shown is not None and not (self.shown["used"] and self.shown["it"] is not None):
            self.shown = None

    @rule(number=st.integers(0, 3))
    def set_epoch(self, number: int) -> None:
        self.loader.set_epoch(number)
        if number != self.next[0]:
            self.next = (number, 0)
        self.name("state" if self.named == "state" else "epoch")

    @rule()
    def save(self) -> None:
        self.saved.append((json.loads(json.dumps(self.loader.state_dict())), self.rest(*self.place())))

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        state, _ = data.draw(st.sampled_from(self.saved))
        self.loader.load_state_dict(state)
        self.next = (state["epoch"], state["packs_seen"])
        self.name("state")

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def resume_elsewhere(self, data: st.DataObject) -> None:
        state, rest = data.draw(st.sampled_from(self.saved))
        other = make(self.folder, self.kind, seed=99, rank=self.world - 1, world_size=self.world)
        other.load_state_dict(state)
        assert in_order(self.marks, other) == rest

    def place(self) -> tuple[int, int]:
        if self.shown is None or not self.shown["used"]:
            return self.next
        number, seen = self.shown["from"]
        return number, seen + self.shown["taken"] * self.world

    @invariant()
    def state_is_what_was_consumed(self) -> None:
        assert at(self.loader) == self.place()
        assert len(self.loader) == -(-PACKS // self.world)


@pytest.mark.parametrize("kind", KINDS)
def test_any_calls_in_any_order(folder: Path, marks: dict[Any, int], kind: str) -> None:
    machine = type("Machine", (Passes,), {"folder": folder, "marks": marks, "kind": kind})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


def test_workers_read_ahead_and_the_state_does_not(folder: Path, marks: dict[Any, int]) -> None:
    loader = make(folder, "dataloader", num_workers=2)
    unused = iter(loader)  # workers have begun
    assert at(loader) == (0, 0)
    running = iter(loader)
    seen = take(running, 2, marks)
    loader.set_epoch(4)
    assert at(loader) == (0, 2)
    assert seen + in_order(marks, running) == epoch(folder, 0)
    assert in_order(marks, loader) == epoch(folder, 4)
    del unused


def test_poptorch_s_sampler_keeps_the_same_rules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "poptorch", poptorch_double)
    options = Options(device_iterations=4)
    sampler = poptorch_loader(PackDataset(folder), options, seed=SEED, redraw=False).pack_sampler
    running = iter(sampler)
    assert [next(running) for _ in range(3)] == epoch(folder, 0)[:3]
    sampler.set_epoch(5)
    assert list(running) == [*epoch(folder, 0)[3:], -1]
    assert list(sampler) == [*epoch(folder, 5), -1]
    assert list(sampler) == [*epoch(folder, 6), -1]
    unused = iter(sampler)
    assert list(sampler) == [*epoch(folder, 7), -1]
    del unused
    for wrong in (-1, 1.5, math.inf, True, "1", None):
        for numbers in ((wrong, 0), (0, wrong)):
            with pytest.raises(StateError, match="must be a whole number"):
                sampler.state_dict(*numbers)


WRONG_NUMBERS = [math.inf, -math.inf, math.nan, 1.0, 10**30, 10**5000, -1, -(10**30), True, False, "1", b"1", None, [1]]
WRONG_NUMBERS += [{}, np.array([1, 2]), np.float64(1), torch.tensor([1, 2]), torch.tensor(1.0), np.True_, 1j]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["epoch", "packs_seen", "seed", "lanes"])
@pytest.mark.parametrize("wrong", WRONG_NUMBERS, ids=lambda wrong: type(wrong).__name__)
def test_numbers_of_a_state(folder: Path, kind: str, name: str, wrong: Any) -> None:
    loader = make(folder, kind)
    before = loader.state_dict()
    with pytest.raises(StateError, match=f"not a loader state: {name} must be a whole number"):
        loader.load_state_dict({**before, name: wrong})
    assert loader.state_dict() == before


def test_a_state_s_other_values(folder: Path) -> None:
    loader = make(folder, "thin")
    state = loader.state_dict()
    for wrong in (1, 0, "True", None, [True], math.nan):
        with pytest.raises(StateError, match="not a loader state: fingerprint must be text and redraw True, False or"):
            loader.load_state_dict({**state, "redraw": wrong})
    for wrong in (None, 7, b"ab", ["ab"]):
        with pytest.raises(StateError, match="not a loader state: fingerprint must be text"):
            loader.load_state_dict({**state, "fingerprint": wrong})
    with pytest.raises(StateError, match="another data set or another shuffle setting: it names ab, this loader reads"):
        loader.load_state_dict({**state, "fingerprint": "ab"})
    for name in ("epoch", "packs_seen", "seed", "lanes", "fingerprint"):
        with pytest.raises(StateError, match=f"fingerprint. Missing: {name}$"):
            loader.load_state_dict({key: value for key, value in state.items() if key != name})
    for wrong in (None, 3, "state", [state], [], {"epoch": 10**5000}, ()):
        with pytest.raises(StateError, match=r"not a loader state: .* expected what state_dict"):
            loader.load_state_dict(wrong)
    with pytest.raises(StateError, match="lanes must be a whole number from 1 to 65536; got 0"):
        loader.load_state_dict({**state, "lanes": 0})
    in_order_loader = make(folder, "thin", shuffle=False)
    with pytest.raises(StateError, match="redraw is True without shuffle"):
        in_order_loader.load_state_dict({**in_order_loader.state_dict(), "redraw": True})
    assert loader.state_dict() == state
    loader.load_state_dict({**state, "epoch": np.int64(2), "packs_seen": torch.tensor(20), "more": "ignored"})
    assert loader.state_dict() == {**state, "epoch": 2, "packs_seen": 20}
    assert type(loader.state_dict()["epoch"]) is int
    assert loader.steps_left == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_beyond_the_epoch_leaves_nothing(folder: Path, marks: dict[Any, int], kind: str) -> None:
    loader = make(folder, kind)
    loader.load_state_dict({**loader.state_dict(), "packs_seen": MOST})
    assert loader.steps_left == 0 and list(loader) == []
    assert in_order(marks, loader) == epoch(folder, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [0.5, 1.0, math.nan, math.inf, "1", None, True, -1, 2**63, 10**30, np.array([1, 2])])
def test_seeds_and_epochs_are_whole_numbers(folder: Path, kind: str, wrong: Any) -> None:
    with pytest.raises(StateError, match="seed must be a whole number"):
        make(folder, kind, seed=wrong)
    with pytest.raises(StateError, match="epoch must be a whole number"):
        make(folder, kind).set_epoch(wrong)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["batch_size", "lanes", "rank", "world_size"])
def test_other_numbers_are_whole_too(folder: Path, kind: str, name: str) -> None:
    place = {"rank": 0, "world_size": 1}
    for wrong in (0.5, 1.0, math.nan, "1", True):
        with pytest.raises(StateError, match=f"{name} must be a whole number"):
            make(folder, kind, **{**place, name: wrong})
    with pytest.raises(StateError, match="lanes must be at most 65536; got 65537"):
        make(folder, kind, lanes=65537)
    with pytest.raises(StateError, match="redraw must be True, False, \"swaps\" or None; got 'no'"):
        make(folder, kind, redraw="no")


def test_parts_of_packed_data_are_made_when_building(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "poptorch", poptorch_double)
    data = PackDataset(folder)
    parts = [Subset(data, [0, 1]), ConcatDataset([data, data]), random_split(data, [0.5, 0.5])[1], [data]]
    parts += [Subset(ConcatDataset([data, data]), [1]), ConcatDataset([Subset(data, [1]), Subset(data, [2])])]
    loaders = (torch_loader, lambda part: torch_loader(part, as_dataloader=True), numpy_loader)
    loaders += (lambda part: poptorch_loader(part, Options()),)
    for part in parts:
        for loader in loaders:
            with pytest.raises(StateError, match=f"got {type(part).__name__} of packed data.*when building.*--splits"):
                loader(part)
    for place in (
        folder,
        str(folder),
        BuildResult(folder, {"": data.manifest}),
        BuildResult(folder, {"a": data.manifest}),
    ):
        with pytest.raises(StateError, match=r"torch_loader needs a PackDataset; got .*: open it, PackDataset\('"):
            torch_loader(place)  # type: ignore[arg-type]
    for other in ([torch.zeros(1)], None, torch.utils.data.TensorDataset(torch.zeros(3))):
        with pytest.raises(StateError, match=r"torch_loader needs a PackDataset; got .*PackDataset\(folder\); graphs"):
            torch_loader(other)  # type: ignore[arg-type]
    with pytest.raises(StateError, match="needs a PackDataset; got PackReader: open PackDataset"):
        torch_loader(PackReader(folder))  # type: ignore[arg-type]
    with pytest.raises(StateError, match="numpy_loader needs a PackReader; got PackDataset: open PackReader"):
        numpy_loader(data)  # type: ignore[arg-type]
