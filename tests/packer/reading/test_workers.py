"""Worker processes of torch_loader: how steps come from them, Ctrl-C, and what they leave behind: nothing."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from small_packs import write_packs

from packer.reading import PackBatch, PackDataset, torch_loader, transport

PACKS = 23
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than processors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packs"
    write_packs(folder, PACKS)
    return folder


@pytest.mark.parametrize("piped", [True, False])
@pytest.mark.parametrize("layout", ["pyg", "dict"])
def test_steps_arrive_from_workers_by_a_pipe_or_in_shared_memory(folder: Path, monkeypatch, piped, layout) -> None:
    dataset = PackDataset(folder)
    monkeypatch.setattr(transport, "MOST_PIPED", transport.MOST_PIPED if piped else 0)  # forked workers see it too
    here = list(torch_loader(dataset, 2, layout=layout, as_dataloader=True))
    there = list(torch_loader(dataset, 2, layout=layout, num_workers=2))
    assert len(here) == len(there) == -(-PACKS // 2)
    for one, other in zip(here, there, strict=True):
        assert type(one) is type(other) is (dict if layout == "dict" else PackBatch)
        one, other = (dict(step) for step in (one, other))
        assert list(one) == list(other)
        for name, tensor in one.items():
            assert tensor.dtype == other[name].dtype
            assert torch.equal(tensor, other[name]), name
        other["y"].zero_()
        assert torch.equal(one["x"], other["x"])


def test_a_dict_that_is_more_than_plain_tensors_travels_as_it_is() -> None:
    pack = {"a": torch.ones(2, requires_grad=True), "name": "one"}
    sent = pickle.loads(pickle.dumps(transport.PipedStep(pack)))
    assert type(sent) is dict
    assert sent["name"] == "one"
    assert sent["a"].requires_grad


@pytest.mark.slow
def test_twenty_epochs_over_four_workers_leave_nothing_behind(folder: Path) -> None:
    code = f"""
        import gc, os, resource, threading
        from multiprocessing import active_children
        from packer import PackDataset, torch_loader

        def held():
            gc.collect()
            return (len(os.listdir("/proc/self/fd")), len(active_children()), len(os.listdir("/dev/shm")),
                    threading.active_count())

        def resident():
            return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

        dataset = PackDataset({str(folder)!r})
        for options in ({{"num_workers": 4}}, {{"num_workers": 4, "persistent_workers": True}}, {{}}):
            loader = torch_loader(dataset, **options)
            list(loader)
            if not options.get("persistent_workers"):
                before, memory = held(), resident()
            for epoch in range(20):
                assert len(list(loader)) == {PACKS}
            del loader
            assert held() == before, (options, held(), before)
            assert resident() < memory + (8 << 20), (options, resident() - memory)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=600)


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_ends_cleanly(folder: Path, workers: int) -> None:
    code = f"""
        from packer import PackDataset, torch_loader
        loader = torch_loader(PackDataset({str(folder)!r}), num_workers={workers})
        try:
            while True:
                for batch in loader:
                    print("step", flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "step\n"
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: workers get it too
    out, err = child.communicate(timeout=60)
    assert out.endswith("interrupted\n")
    assert child.returncode == 0
    assert "Traceback" not in err


class Told:
    """A transform and a worker_init_fn that show what they find: how the worker takes SIGINT, and that both ran."""

    def __init__(self) -> None:
        self.told = -1

    def start(self, worker: int) -> None:
        self.told = worker

    def __call__(self, pack):
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        held = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return {**pack, "found": torch.tensor([self.told, int(ignored), int(held)])}


def test_workers_leave_ctrl_c_to_the_loop(folder: Path) -> None:
    told = Told()
    batches = list(torch_loader(PackDataset(folder, transform=told), num_workers=2, worker_init_fn=told.start))
    assert {tuple(batch.found.tolist()) for batch in batches} == {(0, 1, 0), (1, 1, 0)}
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
