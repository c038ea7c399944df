# From the repository's root; draws docs/stateful-load.svg and docs/stateful-memory.svg:
#     gnuplot -e "data='bench/results/states-NAME'" bench/states.gp
set terminal svg size 900,400 background 'white' dynamic
set logscale xy
set grid
set key left top
set style data points

set output 'docs/stateful-load.svg'
set multiplot layout 1,2
set xlabel 'steps/s that arrive'
set ylabel 'p99 latency, ms'
do for [states in "64 4096"] {
    set title states.' states; every trial of the search'
    file = data.'-'.states.'.dat'
    plot file index 0 using 1:4 pointtype 7 linecolor rgb '#1050a0' title 'batcher', \
         file index 1 using 1:4 pointtype 9 linecolor rgb '#c04020' title 'one call each', \
         file index 2 using 1:4 pointtype 5 linecolor rgb '#e0a030' title 'fixed windows', \
         10 with lines dashtype 2 linecolor rgb 'black' title 'deadline'
}
unset multiplot

set terminal svg size 700,400 background 'white' dynamic
set output 'docs/stateful-memory.svg'
unset title
set xlabel 'states'
set ylabel 'us per new step'
set key center right
set xrange [0.5:150000]
file = data.'-memory.dat'
plot file using 1:2:3:4 with yerrorlines pointtype 7 linecolor rgb '#1050a0' title 'stateful', \
     file using 1:8:9:10 with yerrorlines pointtype 5 linecolor rgb '#e0a030' title 'round trip', \
     file using 1:5:6:7 with yerrorlines pointtype 9 linecolor rgb '#c04020' title 'window of 64 again'
