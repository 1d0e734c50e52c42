"""The loaders under the tools that wrap them: torchdata's StatefulDataLoader, Lightning, accelerate."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from small_packs import write_packs

from packer.reading import PackDataset, PackReader, torch_loader

PACKS = 23


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data") / "packs"
    write_packs(place, PACKS)
    return place


def in_a_process_of_its_own(code: str, folder: Path) -> list[str]:
    """The lines that a script prints: these tools warn of much at import, and change the process."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def mark(batch: Any) -> float:
    return float(batch["y"].sum())


def stateful(folder: Path, workers: int, **options: Any) -> Any:
    tool = pytest.importorskip("torchdata.stateful_dataloader")
    loader = torch_loader(PackDataset(folder), batch_size=2, seed=3, as_dataloader=True)
    parts = {"batch_sampler": loader.batch_sampler, "collate_fn": loader.collate_fn, "num_workers": workers}
    return tool.StatefulDataLoader(loader.dataset, **parts, **options)


def marks_of(loader: Any) -> list[float]:
    return [mark(batch) for batch in loader]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it
@pytest.mark.parametrize("options", [{}, {"snapshot_every_n_steps": 5}])
@pytest.mark.parametrize(("workers", "stops"), [(0, range(14)), (2, (0, 5, 12, 13))])
def test_torchdata_saves_and_resumes_at_every_step(folder: Path, workers: int, stops: Any, options: dict) -> None:
    whole = stateful(folder, 0)
    epochs = [marks_of(whole) for _ in range(5)]
    assert [len(steps) for steps in epochs] == [12] * 5  # ceil(23 / 2)
    for number in (0, 2) if workers == 0 else (1,):
        for stop in stops:  # 12: all steps were taken; 13: and the loop has ended
            first = stateful(folder, workers, **options)
            for _ in range(number):
                marks_of(first)
            steps = iter(first)
            taken = marks_of(islice(steps, stop))
            state = first.state_dict()
            del steps
            second = stateful(folder, workers, **options)
            second.load_state_dict(state)
            if stop < 13:
                assert taken + marks_of(second) == epochs[number], stop
            assert [marks_of(second) for _ in range(2)] == epochs[number + 1 : number + 3], stop


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_torchdata_resumes_again_and_again(folder: Path) -> None:
    whole = stateful(folder, 0)
    wanted = [mark for _ in range(3) for mark in marks_of(whole)]
    found: list[float] = []
    state: Any = None
    while len(found) < len(wanted):  # a process that is stopped every 5 steps, at the end of an epoch too
        loader = stateful(folder, 0)
        if state is not None:
            loader.load_state_dict(state)
        for number, batch in enumerate(loader, 1):
            found.append(mark(batch))
            if number == 5:
                break
        state = loader.state_dict()
    assert found == wanted


LIGHTNING = """
    import sys, warnings
    warnings.filterwarnings("ignore")
    import lightning, torch
    from packer import PackDataset, torch_loader

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen = []
        def training_step(self, batch, _):
            self.seen.append(float(batch["y"].sum()))
            return (self.weight - 1).square().sum()
        def on_train_epoch_end(self):
            print(*self.seen)
            self.seen = []
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    loader = torch_loader(PackDataset(sys.argv[1]), seed=3, as_dataloader=True)
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", use_distributed_sampler=False, **quiet)
    trainer.fit(Model(), loader)
"""


@pytest.fixture(scope="module")
def under_lightning(folder: Path) -> dict[str, list[str]]:
    """Script -> the lines that it prints. One process runs all of them: importing lightning takes the longest."""
    pytest.importorskip("lightning")
    scripts = (LIGHTNING, LIGHTNING_RESUMES, SAMPLED)
    printed = in_a_process_of_its_own('    print("next")\n'.join(scripts), folder)
    parts = "\n".join(printed).split("\nnext\n")
    return {script: part.splitlines() for script, part in zip(scripts, parts, strict=True)}


def test_lightning_trains_on_every_pack_in_the_loader_s_order(
    folder: Path, under_lightning: dict[str, list[str]]
) -> None:
    printed = under_lightning[LIGHTNING]
    for epoch, line in enumerate(printed[-2:]):
        loader = torch_loader(PackDataset(folder), seed=3)
        loader.set_epoch(epoch)
        assert [float(part) for part in line.split()] == [mark(batch) for batch in loader]


LIGHTNING_RESUMES = """
    import sys, warnings
    warnings.filterwarnings("ignore")
    import lightning, torch
    from packer import PackDataset, torch_loader

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
        def training_step(self, batch, _):
            print("step", self.current_epoch, float(batch["y"].sum()))
            return (self.weight - 1).square().sum()
        def on_train_batch_end(self, outputs, batch, number):
            if not resume and (self.current_epoch, number) == (1, 8):
                self.trainer.save_checkpoint(checkpoint)
                raise SystemExit
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    checkpoint = sys.argv[1] + "/../half.ckpt"
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    for resume in (False, True):
        loader = torch_loader(PackDataset(sys.argv[1]), seed=3, as_dataloader=True)
        trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", use_distributed_sampler=False, **quiet)
        try:
            trainer.fit(Model(), loader, ckpt_path=checkpoint if resume else None)
        except SystemExit:
            pass
"""


def test_lightning_resumes_within_an_epoch(folder: Path, under_lightning: dict[str, list[str]]) -> None:
    # It takes len() for the steps of an epoch, those before the checkpoint included: of another it would drop steps.
    printed = under_lightning[LIGHTNING_RESUMES]
    loader = torch_loader(PackDataset(folder), seed=3)
    wanted = [f"step {epoch} {number}" for epoch in range(3) for number in marks_of(loader)]
    assert [line for line in printed if line.startswith("step")] == wanted


SAMPLED = """
    import sys, warnings
    warnings.filterwarnings("ignore")
    import lightning, numpy as np, torch
    from packer import GraphSizes, PackLimits, PlanBatchSampler, make_plan

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
        def training_step(self, batch, _):
            print("step", self.current_epoch, *batch)
            return (self.weight - 1).square().sum()
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    nodes = np.arange(40) % 7 + 1
    plan = make_plan(GraphSizes(nodes, nodes), PackLimits(30, 30, 9, null_graphs="none"))
    loader = torch.utils.data.DataLoader(range(40), batch_sampler=PlanBatchSampler(plan, seed=3), collate_fn=list)
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", use_distributed_sampler=False, **quiet)
    trainer.fit(Model(), loader)
    sampler = PlanBatchSampler(plan, seed=3)
    for epoch in range(2):
        for batch in sampler:
            print("wanted", epoch, *batch)
    print("batches", trainer.num_training_batches, plan.num_packs)
"""


def test_lightning_takes_a_plan_as_batch_sampler(under_lightning: dict[str, list[str]]) -> None:
    printed = under_lightning[SAMPLED]
    steps, wanted = ([line.split()[1:] for line in printed if line.startswith(word)] for word in ("step", "wanted"))
    assert steps == wanted and len(steps) > 8
    (counts,) = [line.split()[1:] for line in printed if line.startswith("batches")]
    assert counts[0] == counts[1]


ACCELERATE = """
    import sys, warnings
    warnings.filterwarnings("ignore")
    from accelerate import Accelerator
    from packer import PackDataset, torch_loader

    accelerator = Accelerator(cpu=True)
    for prepare in (False, True):
        loader = torch_loader(PackDataset(sys.argv[1]), seed=3, as_dataloader=True, rank=0, world_size=1)
        if prepare:
            loader = accelerator.prepare(loader)
        print(*(float(batch["y"].sum()) for batch in loader))
"""


def test_accelerate_takes_the_loader_prepared_or_not(folder: Path) -> None:
    pytest.importorskip("accelerate")
    expected = [mark(batch) for batch in torch_loader(PackDataset(folder), seed=3)]
    for line in in_a_process_of_its_own(ACCELERATE, folder):
        assert [float(part) for part in line.split()] == expected


TWO_RANKS = """
    import json, multiprocessing, os, sys, tempfile, types, warnings

    def rank(number, store, folder, answers):
        os.environ.update(WORLD_SIZE="2", RANK=f"{number}", LOCAL_RANK=f"{number}")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="1")  # of a group that is there already: unused
        import torch
        from accelerate import Accelerator, skip_first_batches
        from accelerate.data_loader import prepare_data_loader
        import numpy as np
        from packer import GraphSizes, PackDataset, PackLimits, PlanBatchSampler, make_plan, torch_loader
        from packer.errors import StateError

        dataset = PackDataset(folder, columns=["y", "graphs_mask", "graph_ids"])
        graphs = dataset.manifest.num_graphs

        def loader(batch_size=1, **options):
            return torch_loader(dataset, batch_size, as_dataloader=True, **options)

        def parts():
            own = loader()
            return torch.utils.data.DataLoader(own.dataset, batch_sampler=own.batch_sampler, collate_fn=own.collate_fn)

        thin, early = torch_loader(dataset), loader()
        torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
        prepare = Accelerator(cpu=True).prepare
        nodes = np.arange(graphs) % 5 + 1
        plan = make_plan(GraphSizes(nodes, nodes), PackLimits(20, 20, 6, null_graphs="none"))

        def sampled(**options):
            sampler = PlanBatchSampler(plan, **options)
            as_step = lambda ids: types.SimpleNamespace(graph_ids=torch.tensor(ids), graphs_mask=slice(None))
            return torch.utils.data.DataLoader(range(graphs), batch_sampler=sampler, collate_fn=as_step)

        cases = {
            "sampled": sampled,
            "sampled, prepared": lambda: prepare(sampled()),
            "thin": lambda: prepare(torch_loader(dataset)),
            "thin, made early": lambda: prepare(thin),
            "left out": loader,
            "left out, made early": lambda: early,
            "some skipped": lambda: skip_first_batches(loader(), 0),
            "parts": parts,
            "prepared": lambda: prepare(loader()),
            "prepared, made early": lambda: prepare(early),
            "prepared by the function": lambda: prepare_data_loader(loader()),
            "parts prepared": lambda: prepare(parts()),
            "whole, 23 steps": lambda: prepare(loader(rank=0, world_size=1)),
            "whole, 12 steps": lambda: prepare(loader(2, rank=0, world_size=1)),
        }
        for name, make in cases.items():
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try:
                    ids = [i for step in make() for i in step.graph_ids[step.graphs_mask].tolist()]
                except StateError as error:
                    ids, said = [], [error]
            words = [str(getattr(one, "message", one)) for one in said]
            answers.put((name, ids, [text for text in words if "accelerate" in text]))
        answers.put(None)
        torch.distributed.destroy_process_group()

    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as place:
        queues = [context.SimpleQueue() for _ in range(2)]
        ranks = [
            context.Process(target=rank, args=(number, place + "/store", sys.argv[1], queue), daemon=True)
            for number, queue in enumerate(queues)
        ]
        for one in ranks:
            one.start()
        for answers in zip(iter(queues[0].get, None), iter(queues[1].get, None)):
            print(json.dumps(answers))
"""


def test_accelerate_on_two_ranks_gives_each_graph_once_or_says_what_it_does(folder: Path) -> None:
    pytest.importorskip("accelerate")
    graphs = list(range(PackReader(folder).manifest.counts.graphs))
    refused = r"accelerate would share out the \d+ steps of this rank among 2 processes once more, and 1 of 2 packs "
    seen: dict[str, str] = {}
    for (name, ids, told), (_, others, _) in map(json.loads, in_a_process_of_its_own(TWO_RANKS, folder)):
        if sorted(ids + others) == graphs and not told:
            seen[name] = "each once"
        elif not ids + others and len(told) == 1 and re.match(refused, told[0]):
            seen[name] = "refused"
        elif set(ids + others) == set(graphs) and told and "does not come out even" in told[0]:
            seen[name] = "repeated, with a word"
        else:
            seen[name] = f"{len(ids + others)} graphs, {told}"
    assert seen == {
        "sampled": "each once",
        "sampled, prepared": "refused",
        "thin": "each once",
        "thin, made early": "each once",
        "left out": "each once",
        "left out, made early": "each once",
        "some skipped": "each once",
        "parts": "each once",
        "prepared": "refused",
        "prepared, made early": "refused",
        "prepared by the function": "refused",
        "parts prepared": "refused",
        "whole, 23 steps": "repeated, with a word",
        "whole, 12 steps": "each once",
    }
