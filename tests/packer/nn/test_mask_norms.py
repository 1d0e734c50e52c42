"""mask_norms: another class for each norm, the same weights, buffers and names."""

import copy
import pickle

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from layer_packs import packed, steps  # noqa: E402
from torch_geometric import nn  # noqa: E402

from packer import MaskedBatchNorm, MaskedLayerNorm, mask_norms, masks_of  # noqa: E402
from packer.errors import MaskError  # noqa: E402


def model():
    return torch.nn.Sequential(
        torch.nn.Linear(3, 4), nn.BatchNorm(4), torch.nn.BatchNorm1d(4), nn.LayerNorm(4), torch.nn.LayerNorm(4)
    )


def test_keeps_weights_statistics_names_and_modes():
    before = model()
    before(torch.randn(9, 3))  # running statistics that are not the first ones
    before[2].eval()
    state, weights = copy.deepcopy(before.state_dict()), list(before.parameters())
    after = mask_norms(before)
    assert after is before
    torch.testing.assert_close(dict(after.state_dict()), dict(state), atol=0, rtol=0)
    assert list(after.state_dict()) == list(state)
    assert all(mine is other for mine, other in zip(after.parameters(), weights, strict=True))
    kinds = [type(layer) for layer in after]
    assert kinds == [torch.nn.Linear, nn.BatchNorm, MaskedBatchNorm, MaskedLayerNorm, torch.nn.LayerNorm]
    assert type(after[1].module) is MaskedBatchNorm and after[1].module.training and not after[2].training
    model().load_state_dict(after.state_dict())


def test_a_model_that_is_a_norm_is_returned_masked():
    norm = torch.nn.BatchNorm1d(3, eps=0.25, momentum=0.5)
    masked = mask_norms(norm)
    assert type(masked) is MaskedBatchNorm and (masked.eps, masked.momentum) == (0.25, 0.5)
    assert masked.weight is norm.weight and mask_norms(masked) is masked


def test_a_norm_in_two_places_stays_one():
    norm = torch.nn.BatchNorm1d(3)
    after = mask_norms(torch.nn.Sequential(norm, torch.nn.Linear(3, 3), norm), {"2": "nodes"})
    assert type(after[0]) is MaskedBatchNorm and after[0] is after[2] and after[0].axis == "nodes"


def test_sync_and_single_elements_are_kept():
    after = mask_norms(torch.nn.Sequential(torch.nn.SyncBatchNorm(3), torch.nn.BatchNorm1d(3)))
    assert (after[0].sync, after[1].sync) == (True, False)
    assert mask_norms(torch.nn.Sequential(torch.nn.BatchNorm1d(3)), sync=True)[0].sync
    assert mask_norms(nn.BatchNorm(3, allow_single_element=True)).module.allow_single_element
    assert type(torch.nn.SyncBatchNorm.convert_sync_batchnorm(after)[0]) is MaskedBatchNorm, "it would count padding"


def test_can_be_copied_and_pickled():
    after = mask_norms(model())
    for twin in (copy.deepcopy(after), pickle.loads(pickle.dumps(after))):
        with masks_of({"nodes_mask": torch.arange(9) < 5}):
            torch.testing.assert_close(twin(torch.ones(9, 3)), copy.deepcopy(after)(torch.ones(9, 3)))


@pytest.mark.parametrize(
    "norm", [nn.HeteroBatchNorm(3, 2), torch.nn.LazyBatchNorm1d()], ids=lambda norm: type(norm).__name__
)
def test_refuses_what_has_no_masked_counterpart(norm):
    before = torch.nn.Sequential(torch.nn.BatchNorm1d(3), norm)
    with pytest.raises(MaskError, match=f"1 is a {type(norm).__name__}, whose statistics would count padding"):
        mask_norms(before)
    assert type(before[0]) is torch.nn.BatchNorm1d


def test_refuses_names_of_no_norm():
    before = model()
    with pytest.raises(MaskError, match=r"no norm '0' to mask; it has \['1\.module', '2', '3'\]"):
        mask_norms(before, {"0": "edges"})
    assert type(before[2]) is torch.nn.BatchNorm1d


def test_batches_of_pyg_have_the_masks_too(tmp_path):
    batch, plain = next(steps(*packed(tmp_path / "packs", "one")))
    ours, theirs = mask_norms(nn.BatchNorm(5)), nn.BatchNorm(5)
    with masks_of(batch.to_pyg()):
        torch.testing.assert_close(ours(batch.x)[batch.nodes_mask], theirs(plain.x), atol=1e-5, rtol=1e-5)


def test_types_of_heterogeneous_graphs_have_masks_of_their_own(tmp_path):
    from torch_geometric.data import Batch, HeteroData

    from packer import PackDataset, PackLimits, torch_loader
    from pipelines import build

    graphs = []
    for number in range(1, 7):
        graph = HeteroData()
        graph["a"].x, graph["b"].x = torch.randn(number, 3), torch.randn(number + 1, 3)
        graph["a", "to", "b"].edge_index = torch.stack([torch.arange(number)] * 2)
        graphs.append(graph)
    limits = PackLimits({"a": 30, "b": 36}, {("a", "to", "b"): 28}, 8)
    build(graphs, tmp_path / "packs", limits, workers=1)
    dataset = PackDataset(tmp_path / "packs")
    batch, ids = next(iter(torch_loader(dataset, shuffle=False))), dataset.graph_ids(0)
    plain = Batch.from_data_list([graphs[i] for i in ids[ids >= 0].tolist()])
    for given in (batch, batch.to_pyg()):
        for key in ("a", "b"):
            ours, theirs = mask_norms(torch.nn.BatchNorm1d(3)), torch.nn.BatchNorm1d(3)
            with masks_of(given):
                out = ours(batch[key].x)[batch[key].mask]
            torch.testing.assert_close(out, theirs(plain[key].x), atol=1e-5, rtol=1e-5)
