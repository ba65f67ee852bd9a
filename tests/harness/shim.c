/* Between a process and its disk: counts, fails, cuts short, kills at and records the calls that change files.

Loaded with LD_PRELOAD, and asleep until `shim_watch` names a folder, or the environment does:

    HEADRACE_SHIM = folder | action | error | kinds | path | from | until | record

Only calls on paths below that folder count, only of the process that was told, only of the kinds in the mask and with
`path` somewhere in theirs. The calls numbered from..until meet the action; HANG: they wait while there is a file `folder`.hang. What is watched happens under one lock, so
that a record has the order of the disk. A process that this one starts is not watched.
*/
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <dlfcn.h>

enum { WRITE = 1, SYNC = 2, SIZE = 4, CREATE = 8, RENAME = 16, LINK = 32, UNLINK = 64, MKDIR = 128 };
enum { COUNT, KILL, TORN, FAIL, SHORT, HANG };
enum { E_CREATE = 1, E_WRITE, E_SIZE, E_SYNC, E_SYNC_FAILED, E_RENAME, E_LINK, E_SYMLINK, E_UNLINK, E_MKDIR, E_MARK };

typedef char Path[PATH_MAX];

static Path root, met;
static size_t root_length;
static pid_t owner;
static int action, error_number, only_linking;
static unsigned kinds = ~0u;
static char part[256];
static long from, until, calls, hits;
static int record_fd = -1, die_after;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t (*inodes)[2];
static long inode_count = -1;

/* --- what Python tells --- */

void shim_plan(int what, int error, unsigned of, const char *path, long first, long last) {
    action = what; error_number = error; kinds = of; from = first; until = last; calls = hits = 0;
    snprintf(part, sizeof part, "%s", path);
}
void shim_watch(const char *folder) {
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    owner = getpid();
}
void shim_record(const char *path) {
    record_fd = path[0] ? syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
}
/* As on a file system that can't rename without replacing. */
void shim_only_linking(int yes) { only_linking = yes; }
/* What stat says of an inode's number: `to` for `from`, and for all others one that no file here has. */
void shim_inodes(long count, const uint64_t *pairs) {
    free(inodes);
    inodes = count > 0 ? malloc(count * sizeof *inodes) : NULL;
    if (count > 0) memcpy(inodes, pairs, count * sizeof *inodes);
    inode_count = count;
}
long shim_calls(void) { return calls; }
long shim_hits(void) { return hits; }
const char *shim_met(void) { return met; }

__attribute__((constructor)) static void told_by_the_environment(void) {
    char *told = getenv("HEADRACE_SHIM");
    if (told == NULL) return;
    char *fields[8];
    for (int i = 0; i < 8; i++) fields[i] = strsep(&told, "|");
    if (fields[7] == NULL) abort();
    shim_plan(atoi(fields[1]), atoi(fields[2]), strtoul(fields[3], NULL, 10), fields[4], atol(fields[5]), atol(fields[6]));
    shim_record(fields[7]);
    shim_watch(fields[0]);
    unsetenv("HEADRACE_SHIM");
    unsetenv("LD_PRELOAD");
}

/* --- paths --- */

static int below_root(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}
static int watched(void) { return root_length && getpid() == owner; }

static int of_descriptor(int fd, char *path) {
    char name[40];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, name, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below_root(path);
}
static int of_name(int folder, const char *name, char *path) {
    Path base;
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return below_root(path);
    }
    if (folder == AT_FDCWD) {
        if (getcwd(base, sizeof base) == NULL) return 0;
    } else {
        char link[40];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, base, PATH_MAX - 1);
        if (length < 0) return 0;
        base[length] = 0;
    }
    if (strlen(base) + strlen(name) + 2 > PATH_MAX) return 0;
    strcpy(path, base);
    strcat(path, "/");
    strcat(path, name);
    return below_root(path);
}

/* --- the judge and the record --- */

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}
/* A disk that doesn't answer, as long as there is a file FOLDER.hang; the others wait behind this call. */
static void hang(void) {
    Path gate;
    struct stat there;
    snprintf(gate, sizeof gate, "%.*s.hang", (int)root_length, root);
    while (syscall(SYS_newfstatat, AT_FDCWD, gate, &there, 0) == 0) usleep(10000);
}
/* Begins a watched call, under the lock: what is to become of it. */
static int begin(unsigned kind, const char *path, const char *other) {
    pthread_mutex_lock(&lock);
    die_after = 0;
    if (!(kinds & kind)) return COUNT;
    if (part[0] && !strstr(path + root_length, part) && !(other && strstr(other, part))) return COUNT;
    calls++;
    if (calls < from || calls > until || action == COUNT) return COUNT;
    hits++;
    snprintf(met, sizeof met, "%s", path + root_length);
    if (action == KILL) die();
    if (action == HANG) { hang(); return COUNT; }
    if (action == TORN) die_after = 1;
    if (action == FAIL) errno = error_number;
    if (action == SHORT && kind != WRITE) return COUNT;
    return action;
}
static void end(void) {
    if (die_after) die();
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
}
static void note(uint8_t kind, const char *one, const char *two, uint64_t number, const void *data, uint64_t size) {
    if (record_fd < 0) return;
    int kept = errno;
    uint64_t head[5] = {kind, strlen(one), two ? strlen(two) : 0, number, size};
    if (syscall(SYS_write, record_fd, head, sizeof head) < 0) abort();
    syscall(SYS_write, record_fd, one, head[1]);
    if (head[2]) syscall(SYS_write, record_fd, two, head[2]);
    for (uint64_t done = 0; done < size;) {
        ssize_t some = syscall(SYS_write, record_fd, (const char *)data + done, size - done);
        if (some <= 0) abort();
        done += some;
    }
    errno = kept;
}
void shim_mark(const char *text) {
    pthread_mutex_lock(&lock);
    note(E_MARK, text, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
}

/* --- the calls --- */

static ssize_t passed(int fd, const void *data, size_t size, off_t at, int positioned) {
    return positioned ? syscall(SYS_pwrite64, fd, data, size, at) : syscall(SYS_write, fd, data, size);
}
__attribute__((noinline)) static ssize_t judged(int fd, const void *data, size_t size, off_t at, int positioned) {
    Path path;
    if (!of_descriptor(fd, path)) return passed(fd, data, size, at, positioned);
    int verdict = begin(WRITE, path, NULL);
    ssize_t done = -1;
    if (verdict != FAIL) {
        if ((verdict == SHORT || verdict == TORN) && size > 1) size /= 2;
        done = passed(fd, data, size, at, positioned);
        if (done > 0) {
            if (!positioned) at = lseek(fd, 0, SEEK_CUR) - done;
            note(E_WRITE, path, NULL, at, data, done);
        }
    }
    end();
    return done;
}
/* A signal's handler writes into a pipe, on a stack of a few kilobytes within the heap, which a path would overrun: what isn't a
   file goes through before there is one. */
static ssize_t written(int fd, const void *data, size_t size, off_t at, int positioned) {
    struct stat there;
    if (!watched() || syscall(SYS_newfstatat, fd, "", &there, AT_EMPTY_PATH) < 0 || !S_ISREG(there.st_mode))
        return passed(fd, data, size, at, positioned);
    return judged(fd, data, size, at, positioned);
}
ssize_t write(int fd, const void *data, size_t size) { return written(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return written(fd, data, size, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) { return written(fd, data, size, at, 1); }

static int synced(int fd, long call) {
    Path path;
    if (!watched() || !of_descriptor(fd, path)) return syscall(call, fd);
    int failed = begin(SYNC, path, NULL) == FAIL;
    int done = failed ? -1 : syscall(call, fd);
    note(failed ? E_SYNC_FAILED : E_SYNC, path, NULL, 0, NULL, 0);
    end();
    return done;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int ftruncate(int fd, off_t size) {
    Path path;
    if (!watched() || !of_descriptor(fd, path)) return syscall(SYS_ftruncate, fd, size);
    int done = begin(SIZE, path, NULL) == FAIL ? -1 : syscall(SYS_ftruncate, fd, size);
    if (done == 0) note(E_SIZE, path, NULL, size, NULL, 0);
    end();
    return done;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }
int truncate(const char *name, off_t size) {
    Path path;
    if (!watched() || !of_name(AT_FDCWD, name, path)) return syscall(SYS_truncate, name, size);
    int done = begin(SIZE, path, NULL) == FAIL ? -1 : syscall(SYS_truncate, name, size);
    if (done == 0) note(E_SIZE, path, NULL, size, NULL, 0);
    end();
    return done;
}
int truncate64(const char *name, off_t size) { return truncate(name, size); }

static int opened(int folder, const char *name, int flags, mode_t mode) {
    Path path;
    struct stat there;
    if (!(flags & (O_CREAT | O_TRUNC)) || !watched() || !of_name(folder, name, path))
        return syscall(SYS_openat, folder, name, flags, mode);
    int exists = syscall(SYS_newfstatat, folder, name, &there, 0) == 0;
    if (exists && (!(flags & O_TRUNC) || there.st_size == 0 || (flags & O_EXCL)))
        return syscall(SYS_openat, folder, name, flags, mode);
    int fd = begin(exists ? SIZE : CREATE, path, NULL) == FAIL ? -1 : syscall(SYS_openat, folder, name, flags, mode);
    if (fd >= 0) note(exists ? E_SIZE : E_CREATE, path, NULL, 0, NULL, 0);
    end();
    return fd;
}
#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *name, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE_OF(flags) return opened(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE_OF(flags) return opened(folder, name, flags, mode); }

int renameat2(int one, const char *source, int two, const char *target, unsigned flags) {
    Path here, there;
    if (only_linking && (flags & 1)) { errno = EINVAL; return -1; }
    if (!watched() || !of_name(one, source, here) || !of_name(two, target, there))
        return syscall(SYS_renameat2, one, source, two, target, flags);
    int done = begin(RENAME, here, there) == FAIL ? -1 : syscall(SYS_renameat2, one, source, two, target, flags);
    if (done == 0) note(E_RENAME, here, there, 0, NULL, 0);
    end();
    return done;
}
int renameat(int one, const char *source, int two, const char *target) { return renameat2(one, source, two, target, 0); }
int rename(const char *source, const char *target) { return renameat2(AT_FDCWD, source, AT_FDCWD, target, 0); }

int linkat(int one, const char *source, int two, const char *target, int flags) {
    Path here, there;
    if (!watched() || !of_name(one, source, here) || !of_name(two, target, there))
        return syscall(SYS_linkat, one, source, two, target, flags);
    int done = begin(LINK, here, there) == FAIL ? -1 : syscall(SYS_linkat, one, source, two, target, flags);
    if (done == 0) note(E_LINK, here, there, 0, NULL, 0);
    end();
    return done;
}
int link(const char *source, const char *target) { return linkat(AT_FDCWD, source, AT_FDCWD, target, 0); }

int symlinkat(const char *source, int folder, const char *name) {
    Path path;
    if (!watched() || !of_name(folder, name, path)) return syscall(SYS_symlinkat, source, folder, name);
    int done = begin(LINK, path, NULL) == FAIL ? -1 : syscall(SYS_symlinkat, source, folder, name);
    if (done == 0) note(E_SYMLINK, source, path, 0, NULL, 0);
    end();
    return done;
}
int symlink(const char *source, const char *name) { return symlinkat(source, AT_FDCWD, name); }

int unlinkat(int folder, const char *name, int flags) {
    Path path;
    struct stat there;
    if (flags || !watched() || !of_name(folder, name, path) ||
        syscall(SYS_newfstatat, folder, name, &there, AT_SYMLINK_NOFOLLOW) < 0)
        return syscall(SYS_unlinkat, folder, name, flags);
    int done = begin(UNLINK, path, NULL) == FAIL ? -1 : syscall(SYS_unlinkat, folder, name, flags);
    if (done == 0) note(E_UNLINK, path, NULL, 0, NULL, 0);
    end();
    return done;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int mkdirat(int folder, const char *name, mode_t mode) {
    Path path;
    if (!watched() || !of_name(folder, name, path)) return syscall(SYS_mkdirat, folder, name, mode);
    int done = begin(MKDIR, path, NULL) == FAIL ? -1 : syscall(SYS_mkdirat, folder, name, mode);
    if (done == 0) note(E_MKDIR, path, NULL, 0, NULL, 0);
    end();
    return done;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* --- the numbers of inodes, as they were before the power went --- */

static int told(int done, struct stat *there) {
    if (done == 0 && inode_count >= 0) {
        for (long i = 0; i < inode_count; i++)
            if (inodes[i][0] == there->st_ino) { there->st_ino = inodes[i][1]; return done; }
        there->st_ino += 1ul << 40;
    }
    return done;
}
#define NEXT(name, ...) \
    static int (*next)(__VA_ARGS__); \
    if (next == NULL) next = dlsym(RTLD_NEXT, name);
int stat(const char *name, struct stat *there) { NEXT("stat", const char *, struct stat *) return told(next(name, there), there); }
int lstat(const char *name, struct stat *there) { NEXT("lstat", const char *, struct stat *) return told(next(name, there), there); }
int fstat(int fd, struct stat *there) { NEXT("fstat", int, struct stat *) return told(next(fd, there), there); }
int fstatat(int folder, const char *name, struct stat *there, int flags) {
    NEXT("fstatat", int, const char *, struct stat *, int)
    return told(next(folder, name, there, flags), there);
}
int stat64(const char *name, struct stat64 *there) { return stat(name, (struct stat *)there); }
int lstat64(const char *name, struct stat64 *there) { return lstat(name, (struct stat *)there); }
int fstat64(int fd, struct stat64 *there) { return fstat(fd, (struct stat *)there); }
int fstatat64(int folder, const char *name, struct stat64 *there, int flags) {
    return fstatat(folder, name, (struct stat *)there, flags);
}
