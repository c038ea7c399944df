# From the repository's root; draws docs/stateful-load.svg and docs/stateful-memory.svg of what states_report.py wrote:
#     gnuplot -e "data='bench/results/states-NAME'" bench/states.gp
set terminal svg size 900,400 background 'white' dynamic
set logscale xy
set grid
set style data points
set key below

set output 'docs/stateful-load.svg'
set multiplot layout 1,2 title '4096 states: the load served in three ways'
file = data.'-load-4096.dat'
set xlabel 'steps/s that arrive'
set xrange [2000:100000]
set ylabel 'p99 latency, ms'
plot file index 0 using 1:4 pointtype 7 linecolor rgb '#1050a0' title 'batcher', \
     file index 1 using 1:4 pointtype 9 linecolor rgb '#c04020' title 'one call each', \
     file index 2 using 1:4 pointtype 5 linecolor rgb '#e0a030' title 'fixed windows', \
     10 with lines dashtype 2 linecolor rgb 'black' title 'deadline'
set ylabel 'steps/s done'
plot file index 0 using 1:2 pointtype 7 linecolor rgb '#1050a0' title 'batcher', \
     file index 1 using 1:2 pointtype 9 linecolor rgb '#c04020' title 'one call each', \
     file index 2 using 1:2 pointtype 5 linecolor rgb '#e0a030' title 'fixed windows', \
     x with lines dashtype 2 linecolor rgb 'black' title 'all of them'
unset multiplot

set terminal svg size 700,400 background 'white' dynamic
set output 'docs/stateful-memory.svg'
set xlabel 'states'
set ylabel 'us per new step'
set xrange [0.5:150000]
file = data.'-memory.dat'
plot file using 1:2:3:4 with yerrorlines pointtype 7 linecolor rgb '#1050a0' title 'stateful', \
     file using 1:8:9:10 with yerrorlines pointtype 5 linecolor rgb '#e0a030' title 'round trip', \
     file using 1:5:6:7 with yerrorlines pointtype 9 linecolor rgb '#c04020' title 'window of 64 again'
