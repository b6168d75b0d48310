/* A library that is preloaded into a server of Tope or of PostgreSQL. SHIFTED_CLOCK names a file that contains a number
   of milliseconds. For the server, the time of day is the time of the machine plus this number. The monotonic clock is
   not changed. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift_millis;

__attribute__((constructor)) static void open_shift(void) {
    const char *path = getenv("SHIFTED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) {
        return;
    }
    void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) {
        shift_millis = page;
    }
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    long outcome = syscall(SYS_clock_gettime, id, now);
    if (outcome == 0 && id == CLOCK_REALTIME && shift_millis) {
        int64_t nanos = now->tv_nsec + (*shift_millis % 1000) * 1000000;
        now->tv_sec += *shift_millis / 1000 + (nanos < 0 ? -1 : nanos / 1000000000);
        now->tv_nsec = nanos < 0 ? nanos + 1000000000 : nanos % 1000000000;
    }
    return (int)outcome;
}

/* PostgreSQL reads the time of day with this function. */
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    int outcome = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return outcome;
}
