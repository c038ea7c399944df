typedef int cy_placeholder;
