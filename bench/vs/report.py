#!/usr/bin/env python3
"""Joins the JSON lines of bench_gpu and of the peers in vs/gpu into one table and a plot.

    report.py [--markdown FILE] [--plot PREFIX] JSON...

The table, one line a shape: microseconds per time step of carry, of each peer, the ratio carry / best peer (under 1:
carry is faster), and the share of the floor that carry reaches (floor / carry; the formulas are below and stand for
one H200: on another GPU the share compares with that machine). --plot writes PREFIX.dat and PREFIX.gp for gnuplot.
"""
import argparse
import json
import sys

# ---- the floor: what one H200 could do at best, by arithmetic from published rates; nothing here was measured ----
PEAK_FLOP_US = {"bf16": 790e6, "fp16": 790e6, "tf32": 395e6, "fp32": 55e6}  # FLOP per microsecond
BYTES = {"bf16": 2, "fp16": 2, "tf32": 4, "fp32": 4}
L2_BYTES, L2_BYTES_US, HBM_BYTES_US = 44e6, 9.7e6, 4.0e6
SM_COUNT, CLOCKS_US = 132, 1980
SHARED_BYTES_US, INGEST_BYTES_US = 128 * CLOCKS_US, 64 * CLOCKS_US  # of one SM: its shared memory, from L2
ON_CHIP_BYTES = SM_COUNT * (200 + 180) * 1024  # shared memory and registers for weights
SYNC_US, NODE_US, CELL_US, LAUNCH_US = 0.7, 1.3, 0.1, 2.4  # an exchange among all SMs, a graph node, gates, a launch


def compute_us(h, b, precision):
    """8 H^2 B operations; tensor cores pad the rows to 8."""
    rows = b if precision == "fp32" else -(-b // 8) * 8
    return 8 * h * h * rows / PEAK_FLOP_US[precision]


def stream_us(h, precision):
    """The recurrent weights, from L2 if they fit it."""
    weights = 4 * h * h * BYTES[precision]
    return weights / (L2_BYTES_US if weights <= L2_BYTES else HBM_BYTES_US)


def persistent_us(h, b, precision):
    """A step whose weights stay on chip, in as many copies as pay, each for its share of the rows: exchange, the slower
    of arithmetic, reading the resident slice and streaming what has no room; h of its rows into every SM; gates."""
    weights = 4 * h * h * BYTES[precision]
    compute = compute_us(h, b, precision)
    missing = max(0, weights - ON_CHIP_BYTES)

    def with_copies(copies):
        resident = copies * (weights - missing)
        work = max(compute, resident / SM_COUNT / SHARED_BYTES_US, missing / L2_BYTES_US)
        return work + b / copies * h * BYTES[precision] / INGEST_BYTES_US

    most = max(1, min(b, int(ON_CHIP_BYTES // weights)))
    return SYNC_US + min(with_copies(copies) for copies in range(1, most + 1)) + CELL_US


def per_step_us(h, b, precision):
    """A step as one kernel of a graph."""
    return NODE_US + max(compute_us(h, b, precision), stream_us(h, precision))


def floor_us(shape):
    """Microseconds per time step of all layers, the input product (time-batched, as large as the recurrent one)
    included. A call of one step: one launch, one node a layer, x and h in one product."""
    h, b, precision = shape["H"], shape["B"], shape["precision"]
    compute, stream = compute_us(h, b, precision), stream_us(h, precision)
    if shape["T"] == 1:
        return LAUNCH_US + shape["layers"] * (NODE_US + 2 * max(compute, stream))
    return shape["layers"] * (min(persistent_us(h, b, precision), per_step_us(h, b, precision)) + compute)


# ---- reading ------------------------------------------------------------------------------------------------------
KEY = ("H", "B", "T", "layers", "precision")


def read(paths):
    """headers, {shape key: {program: result}}, [not run]"""
    machines, results, not_run = [], {}, []
    for path in paths:
        for number, line in enumerate(open(path), 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                kind = entry["kind"]
                if kind in ("result", "not_run"):
                    key = tuple(entry[k] for k in KEY)
                    name = entry["program"] + (" " + entry["algorithm"] if entry["program"] in ("cudnn", "plain") else "")
                    if kind == "result":
                        entry["us_per_step"]["median"] + 0
            except (ValueError, KeyError, TypeError) as error:
                sys.exit(f"report: {path}:{number}: no result of a bench: {error!r}")
            if kind in ("machine", "header"):
                machines.append(entry)
            elif kind == "result":
                results.setdefault(key, {})[name] = entry
            elif kind == "not_run":
                not_run.append((key, name, entry.get("reason", "")))
    return machines, results, not_run


def us(results, name):
    return results[name]["us_per_step"]["median"] if name in results else None


def row_of(key, results):
    """What the table and the plot say of one shape."""
    shape = dict(zip(KEY, key))
    peers = {name: us(results, name) for name in results if name != "carry"}
    best = min(peers, key=peers.get) if peers else None
    carry, floor = us(results, "carry"), floor_us(shape)
    return dict(shape, carry=carry, spread=results.get("carry", {}).get("us_per_step"), best=best,
                best_us=peers.get(best), floor=floor, torch=us(results, "torch"),
                ratio=carry / peers[best] if carry and best else None,
                share=floor / carry if carry else None, call=results.get("carry", {}).get("call_us"),
                algorithm=results.get("carry", {}).get("algorithm", ""))


def number(value, digits=2):
    return "" if value is None else f"{value:.{digits}f}"


def states_per_second(rows):
    """Of one-step calls whose p99 is under 10 ms: the most states advanced a second, by model."""
    best = {}
    for r in rows:
        if r["T"] == 1 and r["call"] and r["call"]["p99"] <= 10e3:
            key = (r["H"], r["layers"], r["precision"])
            rate = r["B"] / r["call"]["p50"] * 1e6
            if rate > best.get(key, (0, 0))[0]:
                best[key] = (rate, r["B"])
    return best


def every_program(results):
    """All medians side by side, where there are peers; what torch ran, as its profiler named it."""
    names = sorted({name for of_shape in results.values() for name in of_shape})
    if len(names) < 2:
        return []
    lines = ["", "Every program, microseconds per time step (onnxruntime: by the host's clock):", "",
             "| shape | " + " | ".join(names) + " | torch ran |", "|---" * (len(names) + 2) + "|"]
    for key in sorted(results):
        ran = results[key].get("torch", {})
        ran = " ".join(filter(None, [ran.get("algorithm"), (ran.get("kernels") or [""])[0]]))
        lines.append("| " + " | ".join(["H%d B%d T%d L%d %s" % key] + [number(us(results[key], name)) for name in names] + [ran]) + " |")
    return lines


def markdown(machines, rows, not_run, results):
    lines = []
    m = next((m for m in machines if m["kind"] == "machine"), None)
    if m:
        lines += [f"Machine: {m.get('gpu') or 'no GPU'}, driver {m.get('driver') or 'none'}, SM clock as read "
                  f"{m.get('sm_clock') or 'unknown'}; {m.get('date')}, commit {m.get('commit')}.", ""]
    if any(m.get("dry_run") or m.get("arrays") == "host" for m in machines):
        lines += ["**A dry run, on the CPU or an emulated device: these figures say nothing about a GPU.**", ""]
    lines += ["Microseconds per time step, medians. carry / peer under 1: carry is faster. Floor / carry: 1 is the best "
              "that one H200 could do by arithmetic.", "",
              "| H | B | T | layers | precision | carry | p10 to p90 | torch | best peer | its us | carry / peer | floor "
              "| floor / carry | call p50 | call p99 | algorithm |",
              "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        spread = f"{r['spread']['p10']:.2f} to {r['spread']['p90']:.2f}" if r["spread"] else ""
        call = r["call"] or {}
        lines.append("| " + " | ".join([
            str(r["H"]), str(r["B"]), str(r["T"]), str(r["layers"]), r["precision"], number(r["carry"]), spread,
            number(r["torch"]), r["best"] or "", number(r["best_us"]), number(r["ratio"]), number(r["floor"]),
            number(r["share"]), number(call.get("p50"), 1), number(call.get("p99"), 1), r["algorithm"]]) + " |")
    lines += every_program(results)
    rates = states_per_second(rows)
    if rates:
        lines += ["", "States advanced a second by calls of one step with p99 under 10 ms:", "",
                  "| H | layers | precision | states a second | at B |", "|---|---|---|---|---|"]
        lines += [f"| {h} | {layers} | {precision} | {rate:.0f} | {b} |"
                  for (h, layers, precision), (rate, b) in sorted(rates.items())]
    if not_run:
        reasons = {}
        for key, name, reason in not_run:
            reasons.setdefault((name, reason), []).append(key)
        lines += ["", "Not run:", ""]
        for (name, reason), keys in sorted(reasons.items()):
            shown = ", ".join(f"H{k[0]} B{k[1]} T{k[2]} L{k[3]} {k[4]}" for k in keys[:3])
            lines.append(f"- {name}: {len(keys)} shapes ({shown}{', ...' if len(keys) > 3 else ''}): {reason}")
    return "\n".join(lines) + "\n"


def plot(prefix, rows):
    """us per step over B, one index a (H, T, layers, precision): columns B carry p10 p90 best-peer floor."""
    groups = {}
    for r in rows:
        groups.setdefault((r["H"], r["T"], r["layers"], r["precision"]), []).append(r)
    titles = []
    with open(prefix + ".dat", "w") as data:
        for (h, t, layers, precision), members in sorted(groups.items()):
            titles.append(f"H {h}, T {t}, {layers} layers, {precision}")
            data.write(f"# {titles[-1]}\n# B carry p10 p90 best-peer floor\n")
            for r in sorted(members, key=lambda r: r["B"]):
                spread = r["spread"] or {}
                columns = [r["carry"], spread.get("p10"), spread.get("p90"), r["best_us"], r["floor"]]
                data.write(" ".join([str(r["B"])] + ["?" if c is None else f"{c:.4f}" for c in columns]) + "\n")
            data.write("\n\n")
    name = prefix.rsplit("/", 1)[-1]
    with open(prefix + ".gp", "w") as script:
        script.write(f"# gnuplot {name}.gp in this folder draws {name}-N.png\n"
                     "set terminal png size 900,600\nset logscale xy\nset datafile missing '?'\n"
                     "set xlabel 'rows'\nset ylabel 'us per time step'\nset key left top\n")
        for i, title in enumerate(titles):
            script.write(f"set output '{name}-{i}.png'\nset title '{title}'\n"
                         f"plot '{name}.dat' index {i} using 1:2:3:4 with yerrorlines title 'carry', "
                         f"'' index {i} using 1:5 with linespoints title 'best peer', "
                         f"'' index {i} using 1:6 with lines dashtype 2 title 'floor of one H200'\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--markdown")
    parser.add_argument("--plot")
    parser.add_argument("json", nargs="+")
    options = parser.parse_args()
    machines, results, not_run = read(options.json)
    rows = [row_of(key, results[key]) for key in sorted(results)]
    if not rows:
        sys.exit("report: no results in " + ", ".join(options.json))
    text = markdown(machines, rows, not_run, results)
    if options.markdown:
        with open(options.markdown, "w") as file:
            file.write(text)
    else:
        sys.stdout.write(text)
    if options.plot:
        plot(options.plot, rows)


if __name__ == "__main__":
    main()
