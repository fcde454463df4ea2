/* Faults of a disk, for a process that is started with this library in LD_PRELOAD.
 *
 * FAULT_BELOW   files whose path begins with this are meant
 * FAULT_SYNC    the n-th sync fails with EIO
 * FAULT_READ    one of n reads fails with EIO, in no even order: what takes n in a row succeeds at times
 * FAULT_WRITE   the n-th write fails with EIO
 * FAULT_SLEEP   each sync takes so many milliseconds longer
 * FAULT_SWITCH  faults begin once this file is there
 * FAULT_REPORT  a file that is made when the library is loaded, and gets a letter for each fault
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_long syncs, reads, writes;
static const char *below, *switch_file;
static long sync_at, read_one_of, write_at, sleep_ms;
static int report = -1;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) static void begin(void) {
    below = getenv("FAULT_BELOW");
    switch_file = getenv("FAULT_SWITCH");
    sync_at = number("FAULT_SYNC");
    read_one_of = number("FAULT_READ");
    write_at = number("FAULT_WRITE");
    sleep_ms = number("FAULT_SLEEP");
    const char *path = getenv("FAULT_REPORT");
    if (path) report = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
}

static void tell(char letter) {
    int before = errno;
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (report >= 0 && real(report, &letter, 1) != 1) errno = before;
    errno = before;
}

static int is_meant(int fd) {
    char link[64], path[4096];
    if (!below || (switch_file && access(switch_file, F_OK) != 0)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strncmp(path, below, strlen(below)) == 0;
}

static int sync_fails(int fd) {
    if (!is_meant(fd)) return 0;
    if (sleep_ms) {
        struct timespec time = {sleep_ms / 1000, sleep_ms % 1000 * 1000000};
        nanosleep(&time, NULL);
        tell('d');
    }
    if (!sync_at || atomic_fetch_add(&syncs, 1) + 1 != sync_at) return 0;
    tell('s');
    errno = EIO;
    return 1;
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

int fsync(int fd) {
    REAL(int, "fsync", int);
    return sync_fails(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    return sync_fails(fd) ? -1 : real(fd);
}

static int read_fails(int fd) {
    if (!read_one_of || !is_meant(fd)) return 0;
    unsigned long mixed = ((unsigned long)atomic_fetch_add(&reads, 1) + 1) * 0x9e3779b97f4a7c15UL;
    mixed = (mixed ^ mixed >> 32) * 0xd6e8feb86659fd93UL;
    if ((mixed ^ mixed >> 32) % (unsigned long)read_one_of) return 0;
    tell('r');
    errno = EIO;
    return 1;
}

ssize_t pread(int fd, void *bytes, size_t count, off_t at) {
    REAL(ssize_t, "pread", int, void *, size_t, off_t);
    return read_fails(fd) ? -1 : real(fd, bytes, count, at);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
    return read_fails(fd) ? -1 : real(fd, bytes, count, at);
}

static int write_fails(int fd) {
    if (!write_at || !is_meant(fd)) return 0;
    if (atomic_fetch_add(&writes, 1) + 1 != write_at) return 0;
    tell('w');
    errno = EIO;
    return 1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return write_fails(fd) ? -1 : real(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return write_fails(fd) ? -1 : real(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return write_fails(fd) ? -1 : real(fd, bytes, count, at);
}
