"""The graphs of a Python object, one after the other: by number where it has a length and numbers, else by iteration.

`for graph in given` ends at an IndexError or StopIteration that an item raises, as if there were no more graphs, and
never where an object makes an item for every number. So what has a length is held to it.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from packer.errors import SourceError


def graphs_of(source: Any, name: str) -> Iterator[Any]:
    """Each graph of a data set, list or iterable, in order. name: what errors call it, such as "a QM9".

    Raises SourceError for what is no data set of graphs; for an item that raises, naming it, with its error chained;
    and where a length is contradicted.
    """
    check_source(source, name)
    if type(source) in (list, tuple):
        return iter(source)
    length = length_of(source, name)
    if _has_items(source):
        if length is None:
            raise SourceError(
                f"{name} has no length ({_fault_of_length(source)}): where it ends cannot be told from an item that "
                "fails. Give it __len__, or pass a list or a generator"
            )
        return _by_number(source, length, name)
    try:
        rest = iter(source)
    except TypeError as error:
        raise SourceError(
            f"{name} is a {type(source).__name__}, not a PyG data set or an iterable of Data{_remedy(source)}"
        ) from error
    return _in_turn(rest, length, name)


def length_of(source: Any, name: str) -> int | None:
    """How many graphs an object says it has; None where it does not say."""
    if not hasattr(type(source), "__len__"):
        return None
    try:
        return len(source)
    except (TypeError, NotImplementedError):  # so torch's data sets say that they have no length
        return None
    except Exception as error:
        raise SourceError(f"the length of {name} cannot be told: {describe_error(error)}") from error


def _fault_of_length(source: Any) -> str:
    try:
        len(source)
    except Exception as error:
        return f"__len__: {describe_error(error)}" if hasattr(type(source), "__len__") else "__len__"
    return "__len__"


def check_source(source: Any, name: str) -> None:
    """Raise SourceError for a Python object that is known to be something else than a data set of graphs."""
    if hasattr(type(source), "stores"):
        check_graph(source, None)
        raise SourceError(f"{name} is a single graph: pass a list of graphs, [data]")
    if _is_loader(source):
        raise SourceError(f"{name} is a loader, which gives batches: pass the data set that it loads, loader.dataset")
    if isinstance(source, Mapping):
        raise SourceError(f"{name} is a mapping: pass its graphs in a fixed order, list(graphs.values())")
    if isinstance(source, (str, bytes)):
        raise SourceError(f"{name} is a text: pass a PyG data set or an iterable of Data")


def check_graph(graph: Any, graph_id: int | None) -> None:
    """Raise SourceError for an item that is no single graph, PyG `Data` or `HeteroData`."""
    kind = type(graph).__name__
    subject = f"the source is a {kind}" if graph_id is None else f"graph {graph_id} is a {kind}"
    modules = {base.__module__ for base in type(graph).__mro__}
    if "torch_geometric.data.temporal" in modules:
        raise SourceError(
            f"{subject}, a stream of events on one set of nodes, not a small graph: cut it into Data, one for each "
            "window of time"
        )
    if "torch_geometric.data.batch" in modules:
        raise SourceError(f"{subject}, a batch of {graph.num_graphs} graphs: pass the graphs, batch.to_data_list()")
    if hasattr(type(graph), "stores"):
        return
    if isinstance(graph, (tuple, list)) and any(hasattr(type(part), "stores") for part in graph):
        parts = ", ".join(type(part).__name__ for part in graph[:4])
        raise SourceError(
            f"{subject} ({parts}); a source gives one PyG Data or HeteroData for each graph: keep a label in the graph "
            "itself (data.y = label), and give several graphs one by one"
        )
    raise SourceError(f"{subject}; a source gives PyG Data or HeteroData")


def describe_error(error: BaseException) -> str:
    """ "KeyError: 4"."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _has_items(source: Any) -> bool:
    """Whether items are had by number. torch's IterableDataset inherits a `__getitem__` that only raises."""
    if not hasattr(type(source), "__getitem__"):
        return False
    for base in type(source).__mro__:
        if "__getitem__" in vars(base):
            return True
        if "__iter__" in vars(base) and not _has_length_and_items(base):
            return False
    return False


def _has_length_and_items(base: type) -> bool:
    """Whether a class that iterates, and leaves `__getitem__` to its bases, still has items: not torch's own base."""
    owner = next(one for one in base.__mro__ if "__getitem__" in vars(one))
    return not owner.__module__.startswith("torch.utils.data")


def _by_number(source: Any, length: int, name: str) -> Iterator[Any]:
    for number in range(length):
        try:
            graph = source[number]
        except Exception as error:
            raise SourceError(f"graph {number} of {name} ({length} by its length): {describe_error(error)}") from error
        yield graph


def _in_turn(rest: Iterator[Any], length: int | None, name: str) -> Iterator[Any]:
    number = 0
    while True:
        try:
            graph = next(rest)
        except StopIteration:
            break
        except Exception as error:
            raise SourceError(f"graph {number} of {name}: {describe_error(error)}") from error
        if number == length:
            raise SourceError(f"{name} has the length {length}, but gives more graphs: correct its __len__")
        yield graph
        number += 1
    if length is not None and number != length:
        raise SourceError(
            f"{name} has the length {length}, but gives {number} graphs: correct it, or pass a list of its graphs"
        )


def _is_loader(source: Any) -> bool:
    kind = type(source)
    return hasattr(kind, "__iter__") and (
        (hasattr(source, "dataset") and hasattr(source, "collate_fn")) or "Loader" in kind.__name__ + kind.__qualname__
    )


def _remedy(source: Any) -> str:
    if isinstance(source, type):
        return f": make one, {source.__name__}(...)"
    if callable(source):
        return ": call it, and pass what it returns"
    return ""


def is_hetero(graph: Any) -> bool:
    return hasattr(type(graph), "edge_types")


def is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "layout")
