/* A library that is preloaded into a server. SMALL_DISK_FOLDER names a folder, and SMALL_DISK names a file that contains
   a number of bytes. If a write would make the files in the folder larger than this number together, the write fails as
   on a full disk. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const volatile int64_t *size_bytes;
static const char *folder;

__attribute__((constructor)) static void open_size(void) {
    const char *path = getenv("SMALL_DISK");
    folder = getenv("SMALL_DISK_FOLDER");
    int file = path && folder ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) {
        return;
    }
    void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) {
        size_bytes = page;
    }
    close(file);
}

static int is_in_folder(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t prefix = strlen(folder);
    return length > (ssize_t)prefix && strncmp(path, folder, prefix) == 0 && path[prefix] == '/';
}

static int64_t bytes_in_folder(void) {
    int64_t sum = 0;
    DIR *files = opendir(folder);
    for (struct dirent *file; files && (file = readdir(files));) {
        struct stat found;
        if (fstatat(dirfd(files), file->d_name, &found, 0) == 0 && S_ISREG(found.st_mode)) {
            sum += found.st_size;
        }
    }
    if (files) {
        closedir(files);
    }
    return sum;
}

/* Returns whether a file may grow up to the offset `end`. If not, sets errno. */
static int may_reach(int file, int64_t end) {
    struct stat found;
    if (!size_bytes || fstat(file, &found) != 0 || end <= found.st_size || !is_in_folder(file)) {
        return 1;
    }
    if (bytes_in_folder() + end - found.st_size <= *size_bytes) {
        return 1;
    }
    errno = ENOSPC;
    return 0;
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    return may_reach(file, offset + (int64_t)count) ? syscall(SYS_pwrite64, file, bytes, count, offset) : -1;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    return pwrite64(file, bytes, count, offset);
}

ssize_t write(int file, const void *bytes, size_t count) {
    off_t offset = size_bytes ? lseek(file, 0, SEEK_CUR) : -1;
    return offset < 0 || may_reach(file, offset + (int64_t)count) ? syscall(SYS_write, file, bytes, count) : -1;
}

int ftruncate64(int file, off64_t length) {
    return may_reach(file, length) ? (int)syscall(SYS_ftruncate, file, length) : -1;
}

int ftruncate(int file, off_t length) {
    return ftruncate64(file, length);
}

int posix_fallocate64(int file, off64_t offset, off64_t count) {
    if (!may_reach(file, offset + count)) {
        return ENOSPC;
    }
    return syscall(SYS_fallocate, file, 0, offset, count) == 0 ? 0 : errno;
}

int posix_fallocate(int file, off_t offset, off_t count) {
    return posix_fallocate64(file, offset, count);
}
