"""The loaders under the tools that wrap them: torchdata's StatefulDataLoader, Lightning, accelerate."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from small_packs import write_packs

from packer.reading import PackDataset, torch_loader

PACKS = 23
ROOT = Path(__file__).parents[1]


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


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_saves_and_resumes_at_every_step(folder: Path, workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def make() -> Any:
        loader = torch_loader(PackDataset(folder), batch_size=2, seed=3, as_dataloader=True)
        return stateful.StatefulDataLoader(
            loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn, num_workers=workers
        )

    whole = [mark(batch) for batch in make()]
    assert len(whole) == 12
    for stop in range(1, 12) if not workers else (1, 5):
        first = make()
        steps = iter(first)
        taken = [mark(next(steps)) for _ in range(stop)]
        state = first.state_dict()
        del steps
        second = make()
        second.load_state_dict(state)
        assert taken + [mark(batch) for batch in second] == whole, stop


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


def test_lightning_trains_on_every_pack_in_the_loader_s_order(folder: Path) -> None:
    pytest.importorskip("lightning")
    printed = in_a_process_of_its_own(LIGHTNING, folder)
    for epoch, line in enumerate(printed[-2:]):
        loader = torch_loader(PackDataset(folder), seed=3)
        loader.set_epoch(epoch)
        assert [float(part) for part in line.split()] == [mark(batch) for batch in loader]


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
