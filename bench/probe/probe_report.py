#!/usr/bin/env python3
"""The JSON lines of gpu_probe as a table beside what was expected, and as a plot of the ratios.

    probe_report.py [--markdown FILE] [--plot PREFIX] JSON...
"""
import argparse
import json
import sys


def read(paths):
    machines, figures, missing, wrong = [], [], [], []
    for path in paths:
        for number, line in enumerate(open(path), 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                kind = entry["kind"]
                if kind == "probe":
                    entry["median"] + entry["p10"] + entry["p90"], entry["part"], entry["what"], entry["unit"]
            except (ValueError, KeyError, TypeError) as error:
                sys.exit(f"probe_report: {path}:{number}: no line of the probe: {error!r}")
            of_kind = {"machine": machines, "probe": figures, "not_measured": missing, "wrong": wrong}
            of_kind.get(kind, []).append(entry)
    return machines, figures, missing, wrong


def number(value):
    return f"{value:.4g}"


def expected(entry):
    if "expected_low" not in entry:
        return ""
    low, high = entry["expected_low"], entry["expected_high"]
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def markdown(machines, figures, missing, wrong):
    lines = []
    if machines:
        m = machines[0]
        lines += [f"Machine: {m.get('gpu') or 'no GPU'}, driver {m.get('driver') or 'none'}, SM clock as found "
                  f"{m.get('sm_clock') or 'unknown'} of {m.get('sm_clock_most') or 'unknown'}; toolkit {m.get('toolkit')}; "
                  f"{m.get('date')}, commit {m.get('commit')}.", ""]
    if not figures:
        lines += ["**Nothing was measured.**", ""]
    if wrong:
        lines += ["**Wrong results, so no figure:**", ""] + [f"- {e['part']}, {e['what']}: {e['how']}" for e in wrong] + [""]
    if figures:
        lines += ["Medians; a ratio is the median by the middle of what one H200 was expected to show.", "",
                  "| part | what | unit | median | p10 to p90 | expected | ratio |", "|---|---|---|---|---|---|---|"]
        lines += [f"| {e['part']} | {e['what']} | {e['unit']} | {number(e['median'])} | {number(e['p10'])} to "
                  f"{number(e['p90'])} | {expected(e)} | {format(e['ratio'], '.2f') if 'ratio' in e else ''} |" for e in figures]
    if missing:
        lines += ["", "Not measured:", ""] + [f"- {e['part']}, {e['what']}: {e['reason']}" for e in missing]
    return "\n".join(lines) + "\n"


def plot(prefix, figures):
    """Every figure with an expectation: its ratio, on one axis; gnuplot PREFIX.gp draws PREFIX.png."""
    of_ratio = [e for e in figures if "ratio" in e]
    name = prefix.rsplit("/", 1)[-1]
    with open(prefix + ".dat", "w") as data:
        data.write("# line ratio p10 p90 what\n")
        for i, e in enumerate(of_ratio):
            middle = (e["expected_low"] + e["expected_high"]) / 2
            data.write(f"{i} {e['ratio']:.4f} {e['p10'] / middle:.4f} {e['p90'] / middle:.4f} \"{e['what']}\"\n")
    with open(prefix + ".gp", "w") as script:
        script.write(f"# gnuplot {name}.gp in this folder draws {name}.png\n"
                     f"set terminal png size 1400,{200 + 22 * max(1, len(of_ratio))}\nset output '{name}.png'\n"
                     "set logscale x\nset xlabel 'measured by expected'\nset lmargin 70\nset grid x\nunset key\n"
                     f"set yrange [-1:{max(1, len(of_ratio))}]\n"
                     f"plot '{name}.dat' using 2:1:3:4:ytic(5) with xerrorbars pointtype 7\n" if of_ratio else
                     f"# no figure of this run has an expectation\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--markdown")
    parser.add_argument("--plot")
    parser.add_argument("json", nargs="+")
    options = parser.parse_args()
    machines, figures, missing, wrong = read(options.json)
    text = markdown(machines, figures, missing, wrong)
    if options.markdown:
        with open(options.markdown, "w") as file:
            file.write(text)
    else:
        sys.stdout.write(text)
    if options.plot:
        plot(options.plot, figures)


if __name__ == "__main__":
    main()
