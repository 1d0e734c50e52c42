"""What padding must not change: a model's result on real graphs, and what it learns."""

import copy
import itertools

import pytest

torch = pytest.importorskip("torch")
pyg = pytest.importorskip("torch_geometric")

from torch_geometric import nn  # noqa: E402
from torch_geometric.data import Batch, Data  # noqa: E402

from packer import PackDataset, PackLimits, masked_mean, torch_loader  # noqa: E402
from pipelines import build  # noqa: E402

POOLS = {"mean": nn.global_mean_pool, "add": nn.global_add_pool, "max": nn.global_max_pool}


class Model(torch.nn.Module):
    """Three layers along edges, dropout, a pool, a head."""

    def __init__(self, kind, pool, norm=None, drop=0.3):
        super().__init__()

        def layer(width):
            if kind == "gcn":
                return nn.GCNConv(width, 16)
            return nn.GINConv(torch.nn.Sequential(torch.nn.Linear(width, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16)))

        self.layers = torch.nn.ModuleList([layer(5), layer(16), layer(16)])
        self.norm, self.drop = norm or torch.nn.Identity(), drop
        self.pool, self.head = POOLS[pool], torch.nn.Linear(16, 1)

    def forward(self, batch):
        h = batch.x
        for layer in self.layers:
            h = torch.nn.functional.dropout(torch.relu(self.norm(layer(h, batch.edge_index))), self.drop, self.training)
        return self.head(self.pool(h, batch.batch, batch.num_graphs)).squeeze(1)


def random_graphs(count=60, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    graphs = []
    for _ in range(count):
        nodes = number(1, 12)
        edges = torch.randint(0, nodes, (2, number(0, nodes + 2)), generator=generator)
        graphs.append(
            Data(x=torch.randn(nodes, 5, generator=generator), edge_index=edges, y=torch.randn(1, generator=generator))
        )
    return graphs


@pytest.fixture(scope="module", params=["all", "one"])
def packed(request, tmp_path_factory):
    """(graphs, their packs)."""
    graphs = random_graphs()
    folder = tmp_path_factory.mktemp("packs") / "packs"
    build(graphs, folder, PackLimits(48, 80, 8, request.param), workers=1)
    return graphs, PackDataset(folder)


def steps(graphs, dataset, **options):
    """Each pack beside the PyG batch of the same graphs in the same order."""
    for batch, pack in zip(torch_loader(dataset, shuffle=False, **options), range(len(dataset)), strict=True):
        ids = dataset.graph_ids(pack)
        yield batch, Batch.from_data_list([graphs[i] for i in ids[ids >= 0].tolist()])


@pytest.mark.parametrize("pool", list(POOLS))
@pytest.mark.parametrize("kind", ["gcn", "gin"])
def test_outputs_on_real_graphs_are_those_of_pyg(packed, kind, pool):
    torch.manual_seed(0)
    model = Model(kind, pool).eval()
    for batch, plain in steps(*packed):
        real = model(batch)[batch.graphs_mask]
        assert torch.allclose(real, model(plain), atol=1e-5)


@pytest.mark.parametrize("kind", ["gcn", "gin"])
def test_training_on_packs_equals_training_on_batches(packed, kind):
    """The same graphs in each step, plain SGD, 20 steps: the same losses."""
    torch.manual_seed(0)
    ours = Model(kind, "mean")
    ours.eval()  # Dropout draws other numbers for other shapes.
    theirs = copy.deepcopy(ours)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.005) for model in (ours, theirs)]
    taken = 0
    while taken < 20:
        for batch, plain in steps(*packed):
            losses = []
            losses.append(masked_mean((ours(batch) - batch.y.reshape(-1)) ** 2, batch.graphs_mask))
            losses.append(((theirs(plain) - plain.y.reshape(-1)) ** 2).mean())
            for loss, optimizer in zip(losses, optimizers, strict=True):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-4)
            taken += 1


def test_batch_norm_in_training_sees_padding(packed):
    """The documented limit: statistics over all nodes include padding nodes."""
    torch.manual_seed(0)
    model = Model("gcn", "mean", norm=nn.BatchNorm(16), drop=0.0)
    batch, plain = next(steps(*packed))
    model.train()
    with torch.no_grad():
        differs = (model(batch)[batch.graphs_mask] - model(plain)).abs().max()
    assert differs > 1e-3
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model(batch)[batch.graphs_mask], model(plain), atol=1e-5)


def test_masked_mean_of_no_real_graph_is_zero():
    assert masked_mean(torch.tensor([5.0, 7.0]), torch.tensor([False, False])).item() == 0
    assert masked_mean(torch.tensor([5.0, 7.0, 1.0]), torch.tensor([True, True, False])).item() == 6


def test_joined_packs_train_like_one_larger_batch(packed):
    _, dataset = packed
    torch.manual_seed(0)
    model = Model("gin", "add").eval()
    joined = next(iter(torch_loader(dataset, batch_size=2, shuffle=False)))
    single = [model(batch)[batch.graphs_mask] for batch, _ in itertools.islice(steps(*packed), 2)]
    assert torch.allclose(model(joined)[joined.graphs_mask], torch.cat(single), atol=1e-5)
