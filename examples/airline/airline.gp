# gnuplot -e "data='table.txt'; picture='airline.png'" airline.gp
set terminal pngcairo size 1000,520
set output picture
set title "Monthly airline passengers, one month ahead: LSTM(4), stateful, look-back 3"
set xdata time
set timefmt "%Y-%m"
set format x "%Y"
set ylabel "thousands of passengers"
set key top left
set grid
# trained on the first two thirds of the rows
set arrow from "1957-02", graph 0 to "1957-02", graph 1 nohead dashtype 2
set label "not trained on" at "1957-03", graph 0.04
plot data using 2:3 with lines linewidth 2 linecolor rgb "#888888" title "published", \
     data using 2:4 with lines linewidth 4 linecolor rgb "#f0b060" title "Keras", \
     data using 2:5 with lines linewidth 1 linecolor rgb "#1050a0" title "carry"
