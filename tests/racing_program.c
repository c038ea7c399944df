/* Races on purpose: in builds with the thread sanitizer, running this must fail. */
#include <pthread.h>
#include <stdio.h>

static int shared;

static void *count(void *argument)
{
    for (int i = 0; i < 1000; i++)
        shared++;
    return argument;
}

int main(void)
{
    pthread_t other;
    if (pthread_create(&other, NULL, count, NULL) != 0) return 0; /* 0: it should fail */
    count(NULL);
    pthread_join(other, NULL);
    printf("%d\n", shared);
    return 0;
}
