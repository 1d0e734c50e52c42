"""Models with norms learn from packs what they learn from PyG's batches of the same graphs; so do two ranks."""

import copy
import json
import subprocess
import sys
import textwrap

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from layer_packs import packed, steps  # noqa: E402
from paths import ROOT  # noqa: E402
from torch_geometric import nn  # noqa: E402

from packer import mask_norms, masked_mean, masks_of  # noqa: E402

BACKEND = "aot_eager_default_partitioner"  # autograd is traced too; the other partitioner imports all of Inductor
DEGREES = torch.tensor([3, 8, 6, 4, 2])
PNA = {"aggregators": ["mean", "max", "std"], "scalers": ["identity", "amplification"], "deg": DEGREES, "edge_dim": 4}


class Model(torch.nn.Module):
    """Norms over nodes inside and between the layers, over edges, and over graphs, with a virtual node between."""

    def __init__(self, kind, norm=nn.BatchNorm, layers=2):
        super().__init__()

        def mlp():
            return torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU())

        self.first = torch.nn.Linear(5, 16)
        self.edges = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
        self.convs = torch.nn.ModuleList(
            nn.PNAConv(16, 16, **PNA) if kind == "pna" else nn.GINEConv(mlp(), edge_dim=4) for _ in range(layers)
        )
        self.norms = torch.nn.ModuleList(norm(16) for _ in range(layers))
        self.virtual = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU())
        self.head = torch.nn.Linear(16, 1)

    def forward(self, batch):
        h, features = self.first(batch.x), self.edges(batch.edge_attr)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = h + norm(conv(h, batch.edge_index, features)).relu()
            h = h + self.virtual(nn.global_add_pool(h, batch.batch, batch.num_graphs))[batch.batch]
        return self.head(nn.global_mean_pool(h, batch.batch, batch.num_graphs)).squeeze(1)


@pytest.fixture(scope="module", params=["all", "one"])
def data(request, tmp_path_factory):
    return packed(tmp_path_factory.mktemp("packs") / "packs", request.param)


def doubled(*batches):
    """The batches in float64."""
    for batch in batches:
        for name in ("x", "edge_attr", "y"):
            batch[name] = batch[name].double()
    return batches


def twins(kind, norm=nn.BatchNorm, layers=2):
    torch.manual_seed(0)
    theirs = Model(kind, norm, layers)
    return mask_norms(copy.deepcopy(theirs)), theirs


@pytest.mark.parametrize("norm", [nn.BatchNorm, nn.LayerNorm, nn.GraphNorm])
@pytest.mark.parametrize("kind", ["gin", "pna"])
def test_20_steps_are_those_of_pyg(data, kind, norm):
    # In float64: the standard deviations of PNA amplify what float32 rounds away, differently on every CPU.
    ours, theirs = (model.double() for model in twins(kind, norm))
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.003) for model in (ours, theirs)]
    pairs = [doubled(*pair) for pair in steps(*data)]
    taken, losses = 0, []
    while taken < 20:
        for batch, plain in pairs:
            with masks_of(batch):
                mine = masked_mean((ours(batch) - batch.y.reshape(-1)) ** 2, batch.graphs_mask)
            losses = [mine, ((theirs(plain) - plain.y.reshape(-1)) ** 2).mean()]
            for loss, optimizer in zip(losses, optimizers, strict=True):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-9)
            taken += 1
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), atol=1e-9, rtol=1e-9)
    ours.eval(), theirs.eval()
    with masks_of(batch):
        torch.testing.assert_close(ours(batch)[batch.graphs_mask], theirs(plain), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("data", ["one"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "norm"), [("pna", nn.BatchNorm), ("gin", nn.LayerNorm), ("gin", nn.GraphNorm), ("gin", nn.PairNorm)]
)
def test_compiles_as_one_graph(data, kind, norm):
    torch._dynamo.reset()
    if norm is nn.PairNorm:
        norm = lambda width: nn.PairNorm()  # noqa: E731
    ours, theirs = twins(kind, norm, layers=1)
    compiled = torch.compile(ours, fullgraph=True, dynamic=False, backend=BACKEND)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch, plain in list(steps(*data))[:3]:
            with masks_of(batch):
                out = compiled(batch)
            torch.testing.assert_close(out[batch.graphs_mask], theirs(plain), atol=2e-5, rtol=2e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_cuda_graphs_take_the_masks_of_each_batch(data):
    torch._dynamo.reset()
    ours, theirs = twins("gin")
    ours = ours.cuda()
    compiled = torch.compile(ours, fullgraph=True, dynamic=False, mode="reduce-overhead")
    for batch, plain in list(steps(*data))[:5]:
        given = batch.cuda()
        with masks_of(given):
            out = compiled(given)
        masked_mean(out.square(), given.graphs_mask).backward()
        torch.testing.assert_close(out.detach().cpu()[batch.graphs_mask], theirs(plain), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        {name: value.cpu() for name, value in ours.state_dict().items()},
        dict(theirs.state_dict()),
        atol=1e-3,
        rtol=1e-3,
    )


RANKS = """
    import json, sys, traceback
    import torch
    import torch._dynamo.backends.debugging  # every optimizer imports it: here, once for all that are forked
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel
    from layer_packs import packed, steps
    from packer import mask_norms, masked_mean, masks_of
    from test_training_with_norms import BACKEND, Model, doubled

    def train(rank, world, store, folder, kind, swap, queue):
        torch.set_num_threads(1)
        if world > 1:
            distributed.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=world)
        from packer import PackDataset, torch_loader
        torch.manual_seed(0)
        model = Model(kind, layers=1 if swap == "compiled" else 2).double()  # tracing takes the longest
        if swap == "of a SyncBatchNorm":
            model = mask_norms(torch.nn.SyncBatchNorm.convert_sync_batchnorm(model))
        else:
            model = mask_norms(model, sync=swap != "no")
        if swap == "compiled" and world > 1:
            own = torch.compile(model, fullgraph=True, dynamic=False, backend=BACKEND)
        else:
            own = model
        own = DistributedDataParallel(own) if world > 1 else own
        optimizer = torch.optim.SGD(model.parameters(), lr=0.003, momentum=0.9)
        # One process takes the packs of both ranks as one step.
        dataset = PackDataset(folder)
        counts = []
        packs = doubled(*torch_loader(dataset, 3 - world, shuffle=False, rank=0, world_size=1))
        for batch in packs[rank :: world][:4]:
            counts.append(batch.num_real_graphs)
            optimizer.zero_grad()
            with masks_of(batch):
                each = (own(batch) - batch.y.reshape(-1)) ** 2
            # Half the mean over both ranks' graphs on each of two ranks, whose gradients DDP averages.
            masked_mean(each, batch.graphs_mask, per=5.0 * (1 if world > 1 else 2)).backward()
            optimizer.step()
        queue.put((rank, counts, {name: value.tolist() for name, value in model.state_dict().items()}))

    def told(*given):
        try:
            train(*given)
        except BaseException:
            given[-1].put(traceback.format_exc())

    def run(world, store, folder, kind, swap):
        context = torch.multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        given = (world, store, folder, kind, swap, queue)
        ranks = [context.Process(target=told, args=(rank, *given)) for rank in range(world)]
        for one in ranks: one.start()
        found = [queue.get() for _ in ranks]
        if any(isinstance(one, str) for one in found):
            for one in ranks: one.kill()
            return str(found)
        for one in ranks: one.join()
        return sorted(found)

    store, folder, *cases = sys.argv[1:]
    for case in cases:
        kind, swap = case.split(": ")
        print(json.dumps([run(world, store + case, folder, kind, swap) for world in (2, 1)]))
"""


CASES = ["gin: sync", "pna: sync", "gin: of a SyncBatchNorm", "gin: compiled", "gin: no"]


def test_two_ranks_with_uneven_packs_learn_what_one_does(tmp_path):
    """One process forks them all: importing torch takes the longest."""
    packed(tmp_path / "packs", "one")
    paths = ":".join(str(ROOT / path) for path in ("", "tests", "tests/support", "tests/packer/nn"))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RANKS), str(tmp_path / "store"), str(tmp_path / "packs"), *CASES],
        capture_output=True,
        text=True,
        timeout=240,
        env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )
    assert not done.returncode, done.stderr[-3000:]
    for case, (two, ones) in zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True):
        assert not isinstance(two, str), f"{case}: {two}"
        assert not isinstance(ones, str), f"{case}: {ones}"
        (one,) = ones
        counts = [rank[1] for rank in two]
        assert any(mine != other for mine, other in zip(*counts, strict=True)), "the packs are to be uneven"
        assert [sum(both) for both in zip(*counts, strict=True)] == one[1]
        if case == "gin: no":  # statistics of their own
            name = "norms.0.module.running_mean"
            assert (torch.tensor(two[0][2][name]) - torch.tensor(one[2][name])).abs().max() > 1e-3
            continue
        for rank in two:
            for name, value in one[2].items():
                mine, expected = (torch.tensor(values, dtype=torch.float64) for values in (rank[2][name], value))
                said = lambda text, name=name: f"{case}, {name}: {text}"  # noqa: B023, E731
                torch.testing.assert_close(mine, expected, atol=1e-9, rtol=1e-9, msg=said)
