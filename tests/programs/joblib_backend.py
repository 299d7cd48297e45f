"""joblib.Parallel on the workers: what comes back is what it is without them."""

import gc
import math
import os
import tempfile
import warnings

import joblib
import numpy as np
from checking import check, finish
from joblib import Parallel, delayed, parallel_config

import mpitasks as mt
import mpitasks.integrations.joblib

factor = 3
table = {n: n for n in range(50_000)}


def scaled(x, by=1):
    return x * factor * by


def where(_):
    return mt.current_task().rank


def nested(n):
    inner = Parallel(n_jobs=2)(delayed(scaled)(x) for x in range(n))
    own = Parallel(n_jobs=2, backend="mpitasks")(delayed(scaled)(x) for x in range(n))
    return inner, own, joblib.effective_n_jobs(-1)


def fails(x):
    if x == 7:
        raise LookupError(x)
    return x


def leaves(x):
    raise SystemExit(x)


def total(array, at=0, *, other=None):
    return float(array.sum()) + at + (0.0 if other is None else float(other[-1]))


def writeable(array):
    return array.flags.writeable


def looked_up(n):
    return table[n]


class Model:
    def __init__(self, power):
        self.power = power

    def fit(self, x):
        self.done = x**self.power
        return self


if __name__ == "__main__":
    workers = mt.Executor().num_workers
    many = workers > 1  # or joblib runs the calls in the script
    with parallel_config("mpitasks"):
        check("effective", joblib.effective_n_jobs(-1), workers)
        check("effective", joblib.effective_n_jobs(1), 1)
        check("effective", joblib.effective_n_jobs(1000), workers)
        want = [scaled(x) for x in range(200)]
        check("default", Parallel()(delayed(scaled)(x) for x in range(200)), want)
        if many:
            ranks = set(Parallel()(delayed(where)(x) for x in range(200)))
            check("on workers", ranks <= {*range(1, workers + 1)}, True)
        check("lambdas", Parallel()(delayed(lambda x: -x)(x) for x in [1, 2]), [-1, -2])
        check("keywords", Parallel()([delayed(scaled)(1, by=2)]), [6])
        check("none", Parallel()([]), [])
        for batch_size in (1, 7):
            got = Parallel(batch_size=batch_size)(delayed(scaled)(x) for x in range(50))
            check("batches", got, want[:50])
        for size in ("all", "3*n_jobs", 1):
            got = Parallel(pre_dispatch=size)(delayed(scaled)(x) for x in range(20))
            check("pre_dispatch", got, want[:20])
        generator = Parallel(return_as="generator")(
            delayed(scaled)(x) for x in range(30)
        )
        check("generator", [next(generator), next(generator)], want[:2])
        other = Parallel()(delayed(scaled)(x) for x in range(5))
        check("another meanwhile", other, want[:5])
        check("generator", [*generator], want[2:30])
        unordered = Parallel(return_as="generator_unordered")(
            delayed(scaled)(x) for x in range(30)
        )
        check("unordered", sorted(unordered), want[:30])
        with Parallel() as parallel:
            for by in (1, 2):
                factor += 1
                for n in range(50_000):
                    table[n] += 1
                got = parallel(delayed(scaled)(x) for x in range(9))
                check("globals that change", got, [scaled(x) for x in range(9)])
                got = parallel(delayed(looked_up)(x) for x in range(9))
                check("large ones", got, [looked_up(x) for x in range(9)])
        factor = 3
        (inner, own, jobs), *_ = Parallel()(delayed(nested)(4) for _ in range(3))
        check("nested", inner, want[:4])
        check("nested in itself", own, want[:4])
        check("nested, how many", jobs, 1)
        models = Parallel()(delayed(Model(p).fit)(2) for p in range(4))
        check("objects", [m.done for m in models], [1, 2, 4, 8])
        check("classes", type(models[0]) is Model, True)
        for pre_dispatch in ("all", "2*n_jobs"):
            try:
                Parallel(pre_dispatch=pre_dispatch)(
                    delayed(fails)(x) for x in range(99)
                )
                check("failures", None, "LookupError")
            except LookupError as error:
                check("failures", error.args, (7,))
        try:
            Parallel()(delayed(leaves)(x) for x in [3])
            check("leaving", None, "SystemExit")
        except SystemExit as error:
            check("leaving", error.code, 3)
        check("afterwards", Parallel()(delayed(scaled)(x) for x in range(9)), want[:9])
        warnings.simplefilter("ignore", UserWarning)  # joblib's, that it is wasted
        dropped = Parallel(return_as="generator")(delayed(scaled)(x) for x in range(99))
        check("begun", next(dropped), 0)
        del dropped
        gc.collect()
        check("dropped", Parallel()(delayed(scaled)(x) for x in range(9)), want[:9])

        # Large arrays: once, as they are at that moment, and read-only.
        large = np.arange(200_000.0)
        sums = Parallel()(delayed(total)(large, at=n, other=large) for n in range(30))
        check("arrays", sums, [total(large, n, other=large) for n in range(30)])
        check("read-only", Parallel()([delayed(writeable)(large)]), [not many])
        check("small", Parallel()([delayed(writeable)(large[:9].copy())]), [True])
        for keywords in {"max_nbytes": None}, {"mmap_mode": "c"}, {"mmap_mode": None}:
            got = Parallel(**keywords)([delayed(writeable)(large)])
            check(f"own copies, {keywords}", got, [True])

        def changing():
            for n in range(6):
                large[0] = n
                for _ in range(workers):  # so many are taken at a time
                    yield delayed(total)(large)

        sums = Parallel(pre_dispatch="all", batch_size=1)(changing())
        want = [sums[0] + n for n in range(6) for _ in range(workers)]
        check("changed in between", sums, want)
        frozen = large + 1
        frozen.flags.writeable = False
        sums = Parallel()(delayed(total)(frozen, n) for n in range(30))
        check("frozen", sums, [total(frozen, n) for n in range(30)])
        view = large[:]
        view.flags.writeable = False

        def changing_below():
            for n in range(3):
                large[0] = n
                for _ in range(workers):
                    yield delayed(total)(view)

        sums = Parallel(pre_dispatch="all", batch_size=1)(changing_below())
        want = [sums[0] + n for n in range(3) for _ in range(workers)]
        check("changed below", sums, want)
        grid = np.asfortranarray(large.reshape(400, 500))
        for array in (grid, large[::2], large.astype(">f8"), large.astype(object)):
            check("layouts", Parallel()([delayed(total)(array)]), [total(array)])
        fresh = Parallel()(delayed(total)(np.full(200_000, n)) for n in range(40))
        check("arrays that are gone", fresh, [200_000.0 * n for n in range(40)])
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "data")
            mapped = np.memmap(path, np.float64, "w+", shape=(300_000,))
            mapped[:] = 1.0
            check("mapped", Parallel()(2 * [delayed(total)(mapped)]), 2 * [300_000.0])
            check("mapped, part", Parallel()([delayed(total)(mapped[10:30])]), [20.0])
            got = Parallel()([delayed(writeable)(mapped)])
            check("mapped, read-only", got, [not many])
        try:
            Parallel(mmap_mode="r+")([delayed(total)(large)])
            check("mmap_mode", None, "refused")
        except mt.ConfigurationError:
            pass

    check("threads", Parallel(require="sharedmem")([delayed(scaled)(1)]), [3])
    got = Parallel(n_jobs=2, backend="mpitasks")(delayed(math.sqrt)(x) for x in [4, 9])
    check("by name", got, [2.0, 3.0])
    check("one job", Parallel(n_jobs=1, backend="mpitasks")([delayed(scaled)(2)]), [6])
    try:
        Parallel(n_jobs=0, backend="mpitasks")([delayed(scaled)(2)])
        check("no job", None, "ValueError")
    except ValueError:
        pass
    with parallel_config("mpitasks", retries=1, label="fit"):
        got = Parallel()(delayed(scaled)(x) for x in range(30))
        check("options", got, [scaled(x) for x in range(30)])
    try:
        with parallel_config("mpitasks", retires=1):
            Parallel()([delayed(scaled)(1)])
        check("unknown options", many, False)
    except TypeError:
        pass
    finish()
