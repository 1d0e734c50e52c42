"""Columns that the codec would hardly shrink are stored as they are, and are as safe as the others."""

import numpy as np
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from torch_geometric.data import Data  # noqa: E402

from packer import PackDataset, PackLimits, unpack, verify_shards  # noqa: E402
from packer.errors import FormatError  # noqa: E402
from pipelines import build  # noqa: E402


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_noise_beside_labels(tmp_path, compression):
    generator = torch.Generator().manual_seed(0)
    graphs = [
        Data(x=torch.randn(9, 32, generator=generator), z=torch.full((9,), i % 3), edge_index=torch.tensor([[0], [1]]))
        for i in range(80)
    ]
    result = build(graphs, tmp_path / "packs", PackLimits(64, 64, 8), workers=1, compression=compression)
    assert result.manifest.uncompressed == ("x",)

    group = pq.ParquetFile(tmp_path / "packs" / "shard-00000.parquet").metadata.row_group(0)
    codecs = {group.column(i).path_in_schema: group.column(i).compression for i in range(group.num_columns)}
    assert codecs["x"] == "UNCOMPRESSED"
    assert codecs["z"] != "UNCOMPRESSED"

    assert verify_shards(result).ok
    for given, found in zip(graphs, unpack(result), strict=True):
        assert torch.equal(given.x, found.x)
        assert torch.equal(given.z, found.z)


def test_a_flipped_bit_in_one_is_found(tmp_path):
    graphs = [Data(x=torch.randn(9, 32), edge_index=torch.tensor([[0], [1]])) for _ in range(80)]
    build(graphs, tmp_path / "packs", PackLimits(64, 64, 8), workers=1)
    path = tmp_path / "packs" / "shard-00000.parquet"
    data = bytearray(path.read_bytes())
    at = data.find(np.float32(graphs[0].x[3, 5].item()).tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    faults = verify_shards(tmp_path / "packs").faults
    assert any(fault.field == "x" for fault in faults)
    with pytest.raises(FormatError, match="damaged"):
        PackDataset(tmp_path / "packs")[0]
