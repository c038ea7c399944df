#!/usr/bin/env python3
"""Tables of what bench_states measured, and the data for states.gp.

    states_report.py bench/results/states-NAME.json...            markdown; several passes: medians, least .. most
    states_report.py --plot bench/results/states-NAME FILES...    also writes -memory.dat and -load-4096.dat
"""
import argparse
import json
import statistics


def spread(values, form):
    if len(values) == 1:
        return form % values[0]
    return f"{form} ({form} .. {form})" % (statistics.median(values), min(values), max(values))


WAYS = ("batcher", "each", "windows")


def load_data(results):
    """For each way and rate the trial of median p99: one stop of the machine must not pass for what a way does."""
    blocks = []
    for i, way in enumerate(WAYS):
        lines = [f"# {way}"]
        for result in results:
            rates = {}
            for trial in result["ways"][i]["trials"]:
                rates.setdefault(trial["rate"], []).append(trial)
            for rate in sorted(rates):
                trials = sorted(rates[rate], key=lambda trial: trial["p99_ms"])
                middle = trials[(len(trials) - 1) // 2]
                lines.append("%.5g %.5g %.4g %.4g %d" % (rate, middle["steps_per_s"], middle["p50_ms"], middle["p99_ms"], len(trials)))
        blocks.append("\n".join(lines))
    return ("# arrivals/s  steps/s done  p50 ms  p99 ms  trials: of each rate the trial of median p99; one block for each way\n"
            + "\n\n\n".join(blocks) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--plot")
    parser.add_argument("json", nargs="+")
    options = parser.parse_args()
    passes = [json.load(open(path)) for path in options.json]
    of_states = {}
    for one in passes:
        for result in one["results"]:
            of_states.setdefault(result["states"], []).append(result)

    print("| states | way | steps/s | p50 ms | p99 ms | rows of a call | against one call each |\n|---|---|---|---|---|---|---|")
    for states, results in sorted(of_states.items()):
        for i, way in enumerate(WAYS):
            found = [r["ways"][i] for r in results if r["ways"][i]["met"]]
            if not found:
                print(f"| {states} | {way} | none met the deadline | | | | |")
                continue
            ratios = [r["ways"][i]["steps_per_s"] / r["ways"][1]["steps_per_s"] for r in results
                      if r["ways"][i]["met"] and r["ways"][1]["met"]]
            cells = [spread([w["steps_per_s"] for w in found], "%.0f"), spread([w["p50_ms"] for w in found], "%.2f"),
                     spread([w["p99_ms"] for w in found], "%.2f"),
                     "%.1f" % statistics.median(w["rows_per_call"] for w in found), spread(ratios, "%.2f") if ratios else ""]
            print(f"| {states} | {way} | " + " | ".join(cells) + " |")

    print("\n| states | mode | us per step | steps/s | against stateful | bytes per state |\n|---|---|---|---|---|---|")
    lines = ["# states  us per step, median least most: stateful, window, round trip"]
    for states, results in sorted(of_states.items()):
        line = [str(states)]
        for i, mode in enumerate(("stateful", "window", "round_trip")):
            memory = [r["memory"][i] for r in results]
            us = [m["us_per_step"] for m in memory]
            line += ["%.4g" % v for v in (statistics.median(us), min(m["us_per_step_least"] for m in memory),
                                          max(m["us_per_step_most"] for m in memory))]
            cells = [spread(us, "%.2f"), "%.0f" % statistics.median(m["steps_per_s"] for m in memory),
                     spread([m["ratio_to_stateful"] for m in memory], "%.3f"), "%.0f" % memory[0]["bytes_per_state"]]
            print(f"| {states} | {mode} | " + " | ".join(cells) + " |")
        lines.append(" ".join(line))
    if options.plot:
        with open(options.plot + "-memory.dat", "w") as data:
            data.write("\n".join(lines) + "\n")
        if 4096 in of_states:
            with open(options.plot + "-load-4096.dat", "w") as data:
                data.write(load_data(of_states[4096]))


main()
