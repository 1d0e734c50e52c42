"""device_loader on a CUDA GPU: what test_device_loader.py holds on the CPU, and what only a GPU shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA GPU", allow_module_level=True)

from small_packs import write_packs  # noqa: E402

from packer import PackDataset, device_loader, torch_loader  # noqa: E402

OPTIONS: dict[str, Any] = {"batch_size": 4, "seed": 3, "lanes": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packs"
    write_packs(folder, 83)
    return folder


def on_gpu(folder: Path, blocks: int | None, **options: Any) -> Any:
    """A device_loader, with a ring of so many blocks; None for all 17."""
    found = device_loader(PackDataset(folder), "cuda", **OPTIONS, **options)
    if blocks is None:
        return found
    return device_loader(PackDataset(folder), "cuda", memory=found.ring.form.size(blocks).bytes, **OPTIONS, **options)


def same(batch: Any, expected: Any) -> bool:
    return all(batch[name].is_cuda and torch.equal(batch[name].cpu(), tensor) for name, tensor in expected)


@pytest.mark.parametrize("redraw", [True, False, "swaps"])
@pytest.mark.parametrize("blocks", [None, 4, 6])
def test_steps_are_those_of_torch_loader(folder: Path, blocks: int | None, redraw: Any) -> None:
    ours, theirs = on_gpu(folder, blocks, redraw=redraw), torch_loader(PackDataset(folder), redraw=redraw, **OPTIONS)
    for _ in range(4):
        kept = list(ours)  # nothing waits for the device between the steps
        assert len(kept) == len(theirs)
        assert all(same(batch, expected) for batch, expected in zip(kept, theirs, strict=True))


@pytest.mark.parametrize("blocks", [None, 4])
def test_a_captured_step_sees_every_batch(folder: Path, blocks: int | None) -> None:
    ours, theirs = on_gpu(folder, blocks), torch_loader(PackDataset(folder), **OPTIONS)
    calls: list[int] = []

    def step(batch: Any) -> Any:
        calls.append(1)
        return {name: tensor * 1 if tensor.is_floating_point() else tensor.clone() for name, tensor in batch}

    steps = ours.captured(step)
    for _ in range(3):
        found = [{name: tensor.clone() for name, tensor in out.items()} for out in steps]
        assert all(same(out, expected) for out, expected in zip(found, theirs, strict=True))
    assert len(calls) == 4  # three steps, and the capture


def test_nothing_waits_for_the_device(folder: Path) -> None:
    ours = on_gpu(folder, None)
    steps = ours.captured(lambda batch: batch.x.sum())
    list(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            list(steps)
            list(ours)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("blocks", [None, 8])
def test_memory_is_what_was_announced(folder: Path, blocks: int | None) -> None:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    ours = on_gpu(folder, blocks)
    taken = torch.cuda.memory_allocated() - before
    # Every tensor begins at a multiple of 512 bytes.
    assert ours.size.bytes <= taken <= ours.size.bytes + 512 * (len(ours.ring.arrays) + 2)
    for _ in range(100):
        for _ in ours:
            pass
    list(ours.captured(lambda batch: batch.x.sum()))
    del ours, _
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before + (1 << 20)
