"""The command that builds a data set again, from what its folder says."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from packer.shards import Manifest
from pipelines.sources.smiles import option_words
from pipelines.stores.locations import Where, above, label, name_of
from pipelines.text.clean import stored

SOURCE, FILE, PLAN = "MODULE:CALLABLE", "SPLIT-FILE", "PLAN-FILE"
"""What stands for what the folder does not say."""


def command_of(manifest: Manifest, folder: Where, build: Mapping[str, Any]) -> str:
    """The command line; build: what build.json says, {} without one.

    Paths are those that were given, so it is for the folder in which the build was started. A build from Python objects
    has no such command: then `pyg:MODULE:CALLABLE` stands for something that returns them.
    """
    job: Mapping[str, Any] = build.get("job", {})
    named: Mapping[str, Any] = build.get("given", {})
    split = manifest.source.get("split")
    words = ["graph-pack", "build", *(named.get("source") or _source(manifest.source))]
    root = above(folder) if split else folder
    words += ["--out", label(root) if isinstance(root, str) else name_of(root)]
    words += _limits(job.get("limits"), manifest)
    if named.get("plan") or "plan" in job.get("plan", {}):
        words += ["--plan", str(named.get("plan") or PLAN)]
    else:
        words += ["--algorithm", str(manifest.plan["algorithm"]), "--seed", str(manifest.plan["seed"])]
        made = job.get("plan", {})
        words += _unless(None if made.get("named") else 60.0, "--time-limit", made.get("time_limit"))
        words += _unless(None, "--work-limit", made.get("work_limit"))
    words += _splits(job.get("splits") or split or {}, named.get("split_file"))
    oversize = job.get("oversize", "error")
    if isinstance(oversize, Mapping):  # what goes is drawn by the seed, whatever made the plan
        words += ["--oversize", str(oversize["policy"])]
        words += [] if "--seed" in words else ["--seed", str(oversize["seed"])]
    else:
        words += _unless("error", "--oversize", oversize)
    words += _scan(job.get("scan", {}))
    words += _unless("zstd", "--compression", manifest.compression)
    words += _unless(None, "--licence", named.get("licence"))
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """A word for a shell, all of it printable: what is not is written by its bytes as bash reads them, $'\x1b'."""
    if word.isprintable():
        return shlex.quote(word)
    signs = (f"\\{sign}" if sign in "\\'" else sign if sign.isprintable() else _bytes_of(sign) for sign in word)
    return f"$'{''.join(signs)}'"


def _bytes_of(sign: str) -> str:
    escaped = "\udc80" <= sign <= "\udcff"  # a byte of a file name that is not UTF-8
    data = sign.encode("utf-8", "surrogateescape") if escaped else stored(sign).encode()
    return "".join(f"\\x{byte:02x}" for byte in data)


def _unless(default: Any, option: str, value: Any) -> list[str]:
    return [] if value is None or value == default else [option, str(value)]


def _source(source: Mapping[str, Any]) -> list[str]:
    """For folders whose build.json is lost: the kind of the source, and what else the manifest keeps of it."""
    kind = str(source.get("kind"))
    if kind == "smiles":
        targets = [word for target in source["targets"] for word in ("--target", str(target))]
        asked = {name: source[name] for name in ("target_dtype", "missing", "delimiter") if name in source}
        return [
            f"smiles:{source['file']}",
            "--smiles-column",
            str(source["smiles_column"]),
            *targets,
            *option_words(asked),
        ]
    if kind == "ase":
        targets = [word for target in source["targets"] for word in ("--target", str(target))]
        asked = {name: source[name] for name in ("cutoff", "float_dtype")}
        return [f"ase:{','.join(map(str, source['files']))}", *option_words(asked), *targets]
    if kind == "tudataset":
        return [f"tudataset:{source['name']}", "--root", "DIR"]
    return [kind] if kind.startswith("sample:") else [f"pyg:{source.get('name', SOURCE)}"]


def _limits(asked: Any, manifest: Manifest) -> list[str]:
    if asked == "auto":
        return ["--limits", "auto"]
    if isinstance(asked, Mapping) and "auto" in asked:
        return ["--limits", "auto", *_numbers("--budget", asked["auto"])]
    limits: Mapping[str, Any] = asked if isinstance(asked, Mapping) else manifest.limits.to_dict()
    words = ["--limits", str(limits["by"])] if "by" in limits else []
    for option, key in (("--num-nodes", "num_nodes"), ("--num-edges", "num_edges"), ("--num-graphs", "num_graphs")):
        if key in limits:
            value = limits[key]
            by_type = ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, Mapping) else value
            words += [option, str(by_type)]
    words += _numbers("--num", limits.get("num", {})) + _numbers("--budget", limits.get("budgets", {}))
    return words + _unless("all", "--null-graphs", limits["null_graphs"])


def _numbers(option: str, numbers: Mapping[str, Any]) -> list[str]:
    return [word for name, number in numbers.items() for word in (option, f"{name}={number}")]


def _splits(split: Mapping[str, Any], file: str | None) -> list[str]:
    """Shares in the order in which they were given, for graphs are dealt in that order."""
    if "fractions" in split:
        text = ",".join(f"{name}={share!r}" for name, share in split["fractions"].items())
        return ["--splits", text, "--split-seed", str(split.get("seed", 0))]
    if "column" in split:
        return ["--split-column", str(split["column"])]
    return ["--split-file", file or FILE] if split else []


def _scan(scan: Mapping[str, Any]) -> list[str]:
    """How the source was read: levels, padding, what was skipped or left out."""
    words = _unless(None, "--on-empty", scan.get("on_empty"))
    for option, pairs in (("--field", scan.get("levels", {})), ("--pad", scan.get("pads", {}))):
        for name, value in pairs.items():
            words += [option, f"{name}={value}"]
    words += _unless(None, "--pad-geometry", scan.get("pad_geometry"))
    attributes: Mapping[str, Any] = scan.get("attributes", {})
    for name in attributes.get("exclude", []):
        words += ["--exclude", str(name)]
    for name, target in attributes.get("index", {}).items():
        words += ["--index", f"{name}={target}" if target else str(name)]
    for name, fields in attributes.get("axes", []):
        words += ["--axis", f"{name}={','.join(fields)}"]
    return words
