"""MaskedBatchNorm: torch's BatchNorm on the real rows, whatever padding holds."""

import copy

import pytest

torch = pytest.importorskip("torch")

from packer import MaskedBatchNorm, mask_norms, masks_of  # noqa: E402
from packer.errors import MaskError  # noqa: E402

MASK = torch.tensor([True, True, False, True, True, False, True, False])


def rows(seed=0, *later):
    return torch.randn(8, 3, *later, generator=torch.Generator().manual_seed(seed)) * 3 + 100


def pair(**options):
    torch.manual_seed(0)
    theirs = torch.nn.BatchNorm1d(3, **options)
    ours = MaskedBatchNorm(3, **options)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.normal_()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def assert_equal_states(ours, theirs):
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-5, rtol=1e-5)


OPTIONS = [
    {},
    {"momentum": None},
    {"momentum": 0.5},
    {"eps": 0.1},
    {"affine": False},
    {"track_running_stats": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("later", [(), (5,)], ids=["rows", "rows of columns"])
def test_equals_batch_norm_of_the_real_rows(options, later):
    ours, theirs = pair(**options)
    for step in range(3):
        x = rows(step, *later)
        pull = torch.randn(x[MASK].shape, generator=torch.Generator().manual_seed(9))
        results = []
        for norm, given, mask in ((ours, x, (MASK,)), (theirs, x[MASK], ())):
            given = given.clone().requires_grad_()
            out = norm(given, *mask)
            real = out[MASK] if mask else out
            wanted = [given, *norm.parameters()]
            gradients = torch.autograd.grad((real * pull).sum(), wanted)
            results.append([real, gradients[0][MASK] if mask else gradients[0], *gradients[1:]])
            assert not mask or (gradients[0][~MASK] == 0).all()
        torch.testing.assert_close(*results, atol=2e-5, rtol=1e-5)
        assert_equal_states(ours, theirs)
    ours.eval(), theirs.eval()
    with masks_of(None if ours.running_mean is not None else {"nodes_mask": MASK}):
        torch.testing.assert_close(ours(x)[MASK], theirs(x[MASK]), atol=1e-5, rtol=1e-5)


def test_by_hand():
    """Real rows 1, 3: mean 2, variance (1 + 1) / 2 = 1, unbiased 2. Running: 0.9 * 0 + 0.1 * 2, 0.9 * 1 + 0.1 * 2."""
    norm = MaskedBatchNorm(1, eps=0.0)
    out = norm(torch.tensor([[1.0], [50.0], [3.0]]), torch.tensor([True, False, True]))
    torch.testing.assert_close(out[:, 0], torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close([norm.running_mean.item(), norm.running_var.item()], [0.2, 1.1])


@pytest.mark.parametrize("padding", [float("nan"), float("inf"), 3e38])
def test_what_padding_holds_does_not_matter(padding):
    ours, theirs = pair()
    x = rows().masked_fill(~MASK.unsqueeze(1), padding).requires_grad_()
    out = ours(x, MASK)
    out[MASK].square().sum().backward()
    torch.testing.assert_close(out[MASK], theirs(x[MASK]), atol=2e-5, rtol=1e-5)
    assert_equal_states(ours, theirs)
    assert out.isfinite().all() and x.grad.isfinite().all() and ours.weight.grad.isfinite().all()


@pytest.mark.parametrize("real", [0, 1])
def test_a_step_of_fewer_than_two_rows_leaves_the_statistics_alone(real):
    ours, _ = pair()
    before = copy.deepcopy(ours.state_dict())
    x = rows().requires_grad_()
    out = ours(x, torch.arange(8) < real)
    out.sum().backward()
    torch.testing.assert_close(ours.state_dict(), before)
    torch.testing.assert_close(out, ours.bias.expand(8, 3))
    assert x.grad.isfinite().all()


def test_a_single_row_takes_the_running_statistics_where_asked():
    norm = MaskedBatchNorm(3, allow_single_element=True)
    norm.running_mean.fill_(2.0)
    one = torch.arange(8) < 1
    torch.testing.assert_close(
        norm(rows(), one)[one], torch.nn.functional.batch_norm(rows(), norm.running_mean, norm.running_var)[one]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    ours, theirs = pair()
    x = rows().to(dtype)
    out = ours(x, MASK)
    assert out.dtype == dtype
    torch.testing.assert_close(out[MASK], theirs(x[MASK].float()).to(dtype))
    assert_equal_states(ours, theirs)


def test_double_stays_double():
    ours, theirs = (norm.double() for norm in pair())
    x = rows().double()
    torch.testing.assert_close(ours(x, MASK)[MASK], theirs(x[MASK]), atol=1e-11, rtol=1e-11)


def test_statistics_of_a_far_away_mean_are_not_lost_to_rounding():
    """Deviation 1 at 10,000: the square of the mean has 8 digits, as many as float32 has."""
    x = torch.randn(512, 3, generator=torch.Generator().manual_seed(0)) + 10_000
    mask = torch.arange(512) % 3 > 0
    out = MaskedBatchNorm(3)(x, mask)[mask]
    torch.testing.assert_close(out.double(), torch.nn.BatchNorm1d(3).double()(x[mask].double()), atol=2e-3, rtol=0)


def test_the_open_block_gives_the_mask_with_as_many_rows():
    ours, theirs = pair()
    x = rows()
    masks = {
        "nodes_mask": MASK,
        "edges_mask": torch.ones(9, dtype=torch.bool),
        "graphs_mask": torch.ones(2, dtype=torch.bool),
    }
    with masks_of(masks):
        with masks_of(None):
            pass
        torch.testing.assert_close(ours(x)[MASK], theirs(x[MASK]), atol=2e-5, rtol=1e-5)


def test_says_what_is_missing():
    norm, x = MaskedBatchNorm(3), rows()
    with pytest.raises(MaskError, match=r"needs to know which rows are real: .*`with masks_of\(batch\):`"):
        norm(x)
    with pytest.raises(MaskError, match=r"mask of bools; got torch\.float32"):
        norm(x, MASK.float())
    with pytest.raises(MaskError, match=r"8 rows and the mask is \[7\]"):
        norm(x, MASK[1:])
    with pytest.raises(ValueError, match=r"takes \[rows, 3, ...\]; got \[8, 4\]"):
        norm(torch.zeros(8, 4), MASK)
    with pytest.raises(MaskError, match="no nodes_mask, edges_mask or graphs_mask; it has \\['x'\\]"):
        masks_of({"x": x})
    with masks_of({"nodes_mask": MASK[1:]}), pytest.raises(MaskError, match="8 rows; the batch has masks of nodes 7"):
        norm(x)


def test_an_equal_number_of_nodes_and_edges_is_asked_about():
    masks = {"nodes_mask": MASK, "edges_mask": ~MASK}
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    with masks_of(masks), pytest.raises(MaskError, match=r"8 rows, as have nodes and edges\. Say which it is"):
        mask_norms(model)(rows())
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    with masks_of(masks):
        out = mask_norms(model, {"0": "edges"})(rows())
    torch.testing.assert_close(out[~MASK], torch.nn.BatchNorm1d(3)(rows()[~MASK]), atol=2e-5, rtol=1e-5)


def test_compiles_as_one_graph_and_once():
    torch._dynamo.reset()
    ours, theirs = pair()
    model = torch.nn.Sequential(ours, torch.nn.Linear(3, 2))
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for step in range(4):
            mask = MASK.roll(step)  # another tensor each time, as batches have
            with masks_of({"nodes_mask": mask}):
                out = compiled(rows(step))
            torch.testing.assert_close(out[mask], model[1](theirs(rows(step)[mask])), atol=2e-5, rtol=1e-5)
            assert_equal_states(ours, theirs)


def test_the_block_may_stand_inside_what_is_compiled():
    torch._dynamo.reset()
    ours, theirs = pair()

    def step(x, mask):
        with masks_of({"nodes_mask": mask}):
            return ours(x)

    compiled = torch.compile(step, fullgraph=True, dynamic=False, backend="aot_eager")
    for i in range(3):
        torch.testing.assert_close(compiled(rows(i), MASK)[MASK], theirs(rows(i)[MASK]), atol=2e-5, rtol=1e-5)
    assert_equal_states(ours, theirs)
