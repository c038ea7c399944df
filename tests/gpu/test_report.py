"""bench/vs/report.py on made-up results: what it joins, what it computes, what it refuses."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "vs")
sys.path.insert(0, FOLDER)
sys.dont_write_bytecode = True
import report  # noqa: E402


def shape(h=1024, b=16, t=256, layers=1, precision="bf16"):
    return {"H": h, "B": b, "T": t, "layers": layers, "precision": precision}


def result(program, median, of=None, **more):
    return {"kind": "result", "program": program, **(of or shape()), "repeats": 9,
            "us_per_step": {"median": median, "p10": median * 0.9, "p90": median * 1.1}, **more}


class Floor(unittest.TestCase):
    """The numbers of the design's table, which was computed on its own."""

    def test_persistent(self):
        for h, b, precision, expected in [(128, 1, "bf16", 0.81), (512, 16, "bf16", 0.99), (1024, 1, "bf16", 1.07),
                                          (1024, 16, "bf16", 1.31), (1024, 64, "tf32", 3.02), (2048, 1, "fp32", 2.49),
                                          (768, 16, "bf16", 1.13), (1024, 64, "fp32", 11.3)]:
            got = report.persistent_us(h, b, precision)
            self.assertLess(abs(got - expected), 0.03 * expected, (h, b, precision, got))

    def test_one_kernel_a_step(self):
        for h, b, precision, expected in [(1024, 1, "bf16", 2.17), (2048, 1, "fp32", 18.1), (512, 256, "fp32", 11.1)]:
            got = report.per_step_us(h, b, precision)
            self.assertLess(abs(got - expected), 0.05 * expected, (h, b, precision, got))

    def test_layers_and_single_steps(self):
        self.assertAlmostEqual(report.floor_us(shape(layers=2)), 2 * report.floor_us(shape()))
        self.assertGreater(report.floor_us(shape(t=1)), report.floor_us(shape()))


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def run_report(self, *entries, code=0):
        path = os.path.join(self.folder.name, "in.json")
        with open(path, "w") as file:
            file.writelines((e if isinstance(e, str) else json.dumps(e)) + "\n" for e in entries)
        self.plot = os.path.join(self.folder.name, "plot")
        done = subprocess.run([sys.executable, os.path.join(FOLDER, "report.py"), "--plot", self.plot, path],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout + done.stderr

    def row(self, text, start):
        rows = [line for line in text.splitlines() if line.startswith(start)]
        self.assertEqual(len(rows), 1, text)
        return [cell.strip() for cell in rows[0].strip("|").split("|")]

    def test_ratio_is_to_the_best_peer(self):
        text = self.run_report({"kind": "machine", "gpu": "A GPU", "date": "today"}, result("carry", 3.0),
                               result("torch", 6.0), result("cudnn", 2.0, algorithm="PERSIST_STATIC"),
                               result("cudnn", 9.0, algorithm="STANDARD"))
        row = self.row(text, "| 1024 | 16 | 256 |")
        self.assertEqual(row[5:11], ["3.00", "2.70 to 3.30", "6.00", "cudnn PERSIST_STATIC", "2.00", "1.50"])
        self.assertAlmostEqual(float(row[12]), report.floor_us(shape()) / 3.0, places=2)
        self.assertIn("A GPU", text)

    def test_without_a_peer_or_without_carry(self):
        text = self.run_report(result("carry", 3.0), result("torch", 6.0, shape(b=64)))
        self.assertEqual(self.row(text, "| 1024 | 16 |")[7:11], ["", "", "", ""])
        self.assertEqual(self.row(text, "| 1024 | 64 |")[5], "")
        self.assertNotIn("States advanced", text)

    def test_states_per_second_counts_calls_under_10_ms(self):
        entries = [result("carry", us, shape(t=1, b=b), call_us={"p50": us, "p99": p99})
                   for us, b, p99 in [(10, 16, 20), (40, 256, 100), (50, 1024, 10001)]]
        self.assertIn("| 1024 | 1 | bf16 | 6400000 | 256 |", self.run_report(*entries))

    def test_not_run_is_listed(self):
        text = self.run_report(result("carry", 3.0), {"kind": "not_run", "program": "torch", **shape(b=1),
                                                      "reason": "the time was up"})
        self.assertIn("- torch: 1 shapes (H1024 B1 T256 L1 bf16): the time was up", text)

    def test_dry_runs_say_so(self):
        for entry, said in [({"kind": "machine", "dry_run": True}, True), ({"kind": "header", "arrays": "host"}, True),
                            ({"kind": "machine", "dry_run": False}, False)]:
            self.assertEqual("dry run" in self.run_report(entry, result("carry", 3.0)), said)

    def test_plot(self):
        self.run_report(result("carry", 3.0), result("carry", 4.0, shape(b=4)), result("carry", 1.0, shape(h=128)))
        with open(self.plot + ".dat") as file:
            data = file.read()
        with open(self.plot + ".gp") as file:
            script = file.read()
        self.assertEqual([line.split()[0] for line in data.splitlines() if line and line[0] != "#"], ["16", "4", "16"])
        self.assertEqual(script.count("set output"), 2)
        self.assertIn("?", data)

    def test_refuses(self):
        self.assertIn("no results", self.run_report({"kind": "machine"}, code=1))
        self.assertIn("in.json:2", self.run_report(result("carry", 1.0), '{"kind": "res', code=1))
        self.assertIn("in.json:1", self.run_report({"kind": "result", "program": "carry", "H": 3}, code=1))


if __name__ == "__main__":
    unittest.main()
