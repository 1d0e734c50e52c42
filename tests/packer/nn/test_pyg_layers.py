"""PyG's layers on packs: what docs/layers.md says of each, tried. Outputs of real rows and gradients of weights."""

import re

import pytest

torch = pytest.importorskip("torch")
pyg = pytest.importorskip("torch_geometric")

from layer_packs import packed, steps  # noqa: E402
from paths import ROOT  # noqa: E402
from torch_geometric import nn  # noqa: E402

from packer import mask_norms, masks_of  # noqa: E402

CLOSE = 1e-5


def mlp(width, to):
    return torch.nn.Sequential(torch.nn.Linear(width, 8), torch.nn.Tanh(), torch.nn.Linear(8, to))


METADATA = (["a"], [("a", "to", "a"), ("a", "back", "a")])
DEGREES = torch.tensor([3, 8, 6, 4, 2])
PNA = {"aggregators": ["mean", "max", "min", "std"], "scalers": ["identity", "amplification", "attenuation"]}

# Name -> (the layer, what it is called with): x, e(dge_index), w(eight), a(ttr), t(ype), p(os), b(atch), g(raph slots)
AS_THEY_ARE = {
    "GCNConv": (lambda: nn.GCNConv(5, 6), "xew"),
    "GINConv": (lambda: nn.GINConv(mlp(5, 6), train_eps=True), "xe"),
    "GINEConv": (lambda: nn.GINEConv(mlp(5, 6), edge_dim=4), "xea"),
    "SAGEConv": (lambda: nn.SAGEConv(5, 6, aggr="max"), "xe"),
    "GraphConv": (lambda: nn.GraphConv(5, 6), "xew"),
    "GATConv": (lambda: nn.GATConv(5, 6, heads=2, edge_dim=4), "xea"),
    "GATv2Conv": (lambda: nn.GATv2Conv(5, 6, heads=2, edge_dim=4), "xea"),
    "TransformerConv": (lambda: nn.TransformerConv(5, 6, heads=2, edge_dim=4), "xea"),
    "PNAConv": (lambda: nn.PNAConv(5, 6, deg=DEGREES, edge_dim=4, **PNA), "xea"),
    "NNConv": (lambda: nn.NNConv(5, 6, mlp(4, 30)), "xea"),
    "CGConv": (lambda: nn.CGConv(5, 4), "xea"),
    "EdgeConv": (lambda: nn.EdgeConv(mlp(10, 6)), "xe"),
    "GatedGraphConv": (lambda: nn.GatedGraphConv(6, 2), "xew"),
    "ResGatedGraphConv": (lambda: nn.ResGatedGraphConv(5, 6), "xe"),
    "AGNNConv": (lambda: nn.AGNNConv(), "xe"),
    "TAGConv": (lambda: nn.TAGConv(5, 6), "xew"),
    "ARMAConv": (lambda: nn.ARMAConv(5, 6), "xew"),
    "SGConv": (lambda: nn.SGConv(5, 6, K=2), "xew"),
    "SSGConv": (lambda: nn.SSGConv(5, 6, alpha=0.1, K=2), "xew"),
    "APPNP": (lambda: nn.APPNP(2, 0.1), "xew"),
    "MFConv": (lambda: nn.MFConv(5, 6), "xe"),
    "RGCNConv": (lambda: nn.RGCNConv(5, 6, 3), "xet"),
    "FastRGCNConv": (lambda: nn.FastRGCNConv(5, 6, 3), "xet"),
    "RGATConv": (lambda: nn.RGATConv(5, 6, 3), "xet"),
    "GMMConv": (lambda: nn.GMMConv(5, 6, dim=4, kernel_size=3), "xea"),
    "FeaStConv": (lambda: nn.FeaStConv(5, 6, heads=2), "xe"),
    "LEConv": (lambda: nn.LEConv(5, 6), "xew"),
    "ClusterGCNConv": (lambda: nn.ClusterGCNConv(5, 6), "xe"),
    "GENConv": (lambda: nn.GENConv(5, 6, edge_dim=4, norm="layer", learn_t=True), "xea"),
    "FiLMConv": (lambda: nn.FiLMConv(5, 6), "xe"),
    "EGConv": (lambda: nn.EGConv(5, 8, num_heads=2, num_bases=2), "xe"),
    "PDNConv": (lambda: nn.PDNConv(5, 6, 4, 8), "xea"),
    "GeneralConv": (lambda: nn.GeneralConv(5, 6, 4), "xea"),
    "LGConv": (lambda: nn.LGConv(), "xew"),
    "ChebConv": (lambda: nn.ChebConv(5, 6, K=3), "xew"),
    "MixHopConv": (lambda: nn.MixHopConv(5, 6), "xew"),
    "AntiSymmetricConv": (lambda: nn.AntiSymmetricConv(5), "xe"),
    "DirGNNConv": (lambda: nn.DirGNNConv(nn.SAGEConv(5, 6)), "xe"),
    "PointNetConv": (lambda: nn.PointNetConv(mlp(8, 6)), "xpe"),
    "FAConv": (lambda: nn.FAConv(5), "xxe"),
    "GCN2Conv": (lambda: nn.GCN2Conv(5, 0.5), "xxe"),
    "SignedConv": (lambda: nn.SignedConv(5, 6, first_aggr=True), "xee"),
    "PointTransformerConv": (lambda: nn.PointTransformerConv(5, 6), "xpe"),
    "PointGNNConv": (lambda: nn.PointGNNConv(mlp(5, 3), mlp(8, 6), mlp(6, 5)), "xpe"),
    "WLConvContinuous": (lambda: nn.WLConvContinuous(), "xew"),
    "SuperGATConv": (lambda: nn.SuperGATConv(5, 6, heads=2).eval(), "xe"),
    "HGTConv": (lambda: nn.HGTConv(5, 6, METADATA, heads=2), "XE"),
    "HeteroConv": (lambda: nn.HeteroConv({kind: nn.SAGEConv(5, 6) for kind in METADATA[1]}), "XE"),
    "Linear": (lambda: nn.Linear(5, 6), "x"),
    'LayerNorm(mode="node")': (lambda: nn.LayerNorm(5, mode="node"), "x"),
    "MLP(norm=None)": (lambda: nn.MLP([5, 8, 6], norm=None), "x"),
}

# With `size=`, the number of graph slots: called with (x, batch, number), or with (x, batch, dim_size=number).
WITH_SIZE = {
    "global_add_pool": (lambda: nn.global_add_pool, "xbg"),
    "global_mean_pool": (lambda: nn.global_mean_pool, "xbg"),
    "global_max_pool": (lambda: nn.global_max_pool, "xbg"),
    "SumAggregation": (lambda: nn.SumAggregation(), "xbd"),
    "MeanAggregation": (lambda: nn.MeanAggregation(), "xbd"),
    "MaxAggregation": (lambda: nn.MaxAggregation(), "xbd"),
    "MinAggregation": (lambda: nn.MinAggregation(), "xbd"),
    "MulAggregation": (lambda: nn.MulAggregation(), "xbd"),
    "VarAggregation": (lambda: nn.VarAggregation(), "xbd"),
    "StdAggregation": (lambda: nn.StdAggregation(), "xbd"),
    "SoftmaxAggregation": (lambda: nn.SoftmaxAggregation(learn=True), "xbd"),
    "PowerMeanAggregation": (lambda: nn.PowerMeanAggregation(), "ubd"),
    "MedianAggregation": (lambda: nn.MedianAggregation(), "xbd"),
    "QuantileAggregation": (lambda: nn.QuantileAggregation(0.3), "xbd"),
    "MultiAggregation": (lambda: nn.MultiAggregation(["mean", "max", "std"]), "xbd"),
    "DegreeScalerAggregation": (lambda: nn.DegreeScalerAggregation(["mean"], ["linear", "identity"], DEGREES), "xbd"),
    "AttentionalAggregation": (lambda: nn.AttentionalAggregation(mlp(5, 1), mlp(5, 6)), "xbd"),
    "DeepSetsAggregation": (lambda: nn.DeepSetsAggregation(mlp(5, 6), mlp(6, 6)), "xbd"),
    "VariancePreservingAggregation": (lambda: nn.VariancePreservingAggregation(), "xbd"),
    "Set2Set": (lambda: nn.Set2Set(5, 3), "xbd"),
    "GraphNorm": (lambda: nn.GraphNorm(5), "xbg"),
    'LayerNorm(mode="graph")': (lambda: nn.LayerNorm(5), "xbg"),
    "InstanceNorm": (lambda: nn.InstanceNorm(5, affine=True), "xbg"),
    "PairNorm": (lambda: nn.PairNorm(), "xbg"),
    "MeanSubtractionNorm": (lambda: nn.MeanSubtractionNorm(), "xbg"),
    "GraphSizeNorm": (lambda: nn.GraphSizeNorm(), "xbg"),
}

# Also with `max_num_elements=`, the most nodes of a graph: they lay nodes out as [graphs, nodes, channels].
WITH_MOST = {
    "SortAggregation": (lambda: nn.SortAggregation(4), "xbdm"),
    "GRUAggregation": (lambda: nn.GRUAggregation(5, 6), "xbdm"),
    "LSTMAggregation": (lambda: nn.LSTMAggregation(5, 6), "xbdm"),
    "GraphMultisetTransformer": (lambda: nn.GraphMultisetTransformer(5, k=3, heads=1), "xbdm"),
    "SetTransformerAggregation": (lambda: nn.SetTransformerAggregation(5), "xbdm"),
    "PatchTransformerAggregation": (lambda: nn.PatchTransformerAggregation(5, 6, 2, 8), "xbdm"),
    "LCMAggregation": (lambda: nn.LCMAggregation(5, 6).eval(), "xbdm"),
    "MLPAggregation": (lambda: nn.MLPAggregation(5, 6, 48, num_layers=1), "xbd"),
}

# By `mask_norms`, called without `batch`.
MASKED = {
    "BatchNorm": (lambda: nn.BatchNorm(5), "x"),
    "torch.nn.BatchNorm1d": (lambda: torch.nn.BatchNorm1d(5), "x"),
    "DiffGroupNorm": (lambda: nn.DiffGroupNorm(5, 3), "x"),
    'LayerNorm(mode="graph")': (lambda: nn.LayerNorm(5), "x"),
    "GraphNorm": (lambda: nn.GraphNorm(5), "x"),
    "InstanceNorm": (lambda: nn.InstanceNorm(5, affine=True), "x"),
    "InstanceNorm(track_running_stats=True)": (lambda: nn.InstanceNorm(5, track_running_stats=True), "x"),
    "PairNorm": (lambda: nn.PairNorm(), "x"),
    "MeanSubtractionNorm": (lambda: nn.MeanSubtractionNorm(), "x"),
    "GraphSizeNorm": (lambda: nn.GraphSizeNorm(), "x"),
    "GENConv": (lambda: nn.GENConv(5, 6, edge_dim=4), "xea"),
    "MLP": (lambda: nn.MLP([5, 8, 6]), "x"),
    "GIN": (lambda: nn.GIN(5, 8, 2, 6, norm="batch_norm"), "xe"),
    "GPSConv": (lambda: nn.GPSConv(6, nn.GCNConv(6, 6), heads=2, norm="batch_norm"), "oeb"),
}


@pytest.fixture(scope="module", params=["all", "one"])
def data(request, tmp_path_factory):
    return packed(tmp_path_factory.mktemp("packs") / "packs", request.param)


def arguments(batch, kinds, most):
    there = {
        "x": batch.x,
        "u": batch.x.abs() + 0.1,
        "o": torch.cat([batch.x, batch.x[:, :1]], 1),
        "e": batch.edge_index,
        "w": batch.edge_weight,
        "a": batch.edge_attr,
        "t": batch.edge_type,
        "p": batch.pos,
        "b": batch.batch,
        "X": {"a": batch.x},
        "E": dict(zip(METADATA[1], (batch.edge_index, batch.edge_index.flip(0)), strict=True)),
        "g": batch.num_graphs,
    }
    named = {"d": ("dim_size", batch.num_graphs), "m": ("max_num_elements", most)}
    return [there[kind] for kind in kinds if kind in there], dict(named[kind] for kind in kinds if kind in named)


def made(make, seed=0):
    torch.manual_seed(seed)
    layer = make()
    if isinstance(layer, torch.nn.Module):
        with torch.no_grad():
            for weight in layer.parameters():  # ones and zeros hide what reaches them
                weight.add_(0.1 * torch.randn_like(weight))
    return layer


def farthest(make, kinds, data, masked=False, count=3):
    """The largest difference of outputs and gradients, as a share of the largest number where that is above 1."""
    ours, theirs = made(make), made(make)
    ours = mask_norms(ours) if masked else ours
    differences = []
    for step, (batch, plain) in enumerate(steps(*data)):
        if step == count:
            break
        results = []
        for layer, given in ((ours, batch), (theirs, plain)):
            most = None if given is plain and "m" not in kinds else 48
            values, named = arguments(given, kinds, most)
            with masks_of(batch if given is batch else None):
                out = layer(*values, **named)
            out = out["a"] if isinstance(out, dict) else out
            if given is batch:
                out = out[batch.nodes_mask if len(out) == batch.num_nodes else batch.graphs_mask]
            pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(step))
            weights = list(layer.parameters()) if isinstance(layer, torch.nn.Module) else []
            wanted = [weight for weight in weights if weight.requires_grad]
            gradients = torch.autograd.grad((out * pull).sum(), wanted, allow_unused=True) if wanted else ()
            state = list(layer.buffers()) if isinstance(layer, torch.nn.Module) else []
            results.append([out, *(torch.zeros(()) if g is None else g for g in gradients), *state])
        assert len(results[0]) == len(results[1])
        for mine, other in zip(*results, strict=True):
            assert mine.shape == other.shape and mine.isfinite().all()
            if mine.numel():
                scale = max(1.0, other.detach().abs().max().item())
                differences.append((mine - other).abs().max().item() / scale)
    return max(differences)


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_equals_pyg_as_it_is(data, name):
    assert farthest(*AS_THEY_ARE[name], data) < CLOSE


@pytest.mark.parametrize("name", WITH_SIZE)
def test_equals_pyg_with_size(data, name):
    assert farthest(*WITH_SIZE[name], data) < CLOSE


@pytest.mark.parametrize("name", WITH_MOST)
def test_equals_pyg_with_size_and_the_most_nodes(data, name):
    assert farthest(*WITH_MOST[name], data) < CLOSE


def test_running_statistics_of_instance_norm_are_means_over_real_graphs(data):
    def make():
        return nn.InstanceNorm(5, affine=True, track_running_stats=True)

    assert farthest(make, "xbg", data, masked=True) < CLOSE
    assert farthest(make, "xbg", data) > 1e-3


@pytest.mark.parametrize("name", MASKED)
def test_equals_pyg_when_masked(data, name):
    make, kinds = MASKED[name]
    assert farthest(make, kinds, data, masked=True) < CLOSE
    assert farthest(make, kinds, data) > 1e-3, "needs no mask"


class VirtualNode(torch.nn.Module):
    """A node of each graph that hears all of its nodes: a row a graph slot, so that padding has its own."""

    def __init__(self):
        super().__init__()
        self.update = torch.nn.Sequential(torch.nn.Linear(5, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU())

    def forward(self, x, batch, num_graphs):
        return x + self.update(nn.global_add_pool(x, batch, num_graphs))[batch]


def test_virtual_nodes_are_one_a_slot(data):
    assert farthest(VirtualNode, "xbg", data, masked=True) < CLOSE


def test_random_walk_encodings_may_be_computed_from_a_pack(data):
    """A walk does not leave its graph. (Laplacian eigenvectors of a batch are of all of it: compute them before.)"""
    walk = pyg.transforms.AddRandomWalkPE(4, "pe")
    for batch, plain in steps(*data):
        ours, theirs = (
            walk(pyg.data.Data(edge_index=each.edge_index, num_nodes=each.num_nodes)).pe for each in (batch, plain)
        )
        torch.testing.assert_close(ours[batch.nodes_mask], theirs, atol=CLOSE, rtol=CLOSE)


# Layers that learn something else from packs, and why: docs/layers.md says what to do instead.
DIFFERENT = {
    "HANConv": (lambda: nn.HANConv(5, 6, METADATA, heads=2), "XE"),  # weighs relations by a mean over all nodes
    "DeepGraphInfomax": (lambda: Summary(), "xe"),  # its summary is a mean over all nodes
}


class Summary(torch.nn.Module):
    """The gradient of the encoder comes through the summary of all nodes."""

    def __init__(self):
        super().__init__()
        self.model = nn.DeepGraphInfomax(
            6, nn.GCNConv(5, 6), lambda z, *_, **__: z.mean(0).sigmoid(), lambda x, e: (x.flip(1), e)
        )

    def forward(self, x, edge_index):
        positive, _, summary = self.model(x, edge_index)
        return positive * summary


@pytest.mark.parametrize("name", DIFFERENT)
def test_differs_from_pyg(data, name):
    assert farthest(*DIFFERENT[name], data) > 1e-3


SELECTING = {"TopKPooling": lambda: nn.TopKPooling(5), "SAGPooling": lambda: nn.SAGPooling(5)}


@pytest.mark.parametrize("name", SELECTING)
def test_pooling_that_selects_nodes_has_no_static_shape(data, name):
    """What real graphs keep is PyG's; how many rows there are depends on the graphs of the pack."""
    ours, theirs, sizes = made(SELECTING[name]), made(SELECTING[name]), set()
    for batch, plain in steps(*data):
        x, _, _, owner, *_ = ours(batch.x, batch.edge_index, batch=batch.batch)
        sizes.add(len(x))
        torch.testing.assert_close(
            x[batch.graphs_mask[owner]],
            theirs(plain.x, plain.edge_index, batch=plain.batch)[0],
            atol=CLOSE,
            rtol=CLOSE,
        )
    assert len(sizes) > 1


@pytest.mark.parametrize(
    ("title", "tried"),
    [
        ("As they are", AS_THEY_ARE),
        ("With the number of graph slots", {**WITH_SIZE, **WITH_MOST}),
        ("With a mask", MASKED),
        ("Needs something else", {**DIFFERENT, **SELECTING, "HeteroBatchNorm": None}),
    ],
)
def test_the_page_lists_what_is_tried(title, tried):
    section = (ROOT / "docs" / "layers.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`([^`]+)`", row)) == sorted(tried)
