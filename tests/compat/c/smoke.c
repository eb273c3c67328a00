/*
 * The C client's basic operations against an ensemble, one check a line of output.
 *
 * Arguments: a connect string, and an existing znode below which this program works.
 * Exit code 0 if every check holds, 1 at the first that does not, 2 for wrong arguments.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <zookeeper/zookeeper.h>

enum {
    SESSION_TIMEOUT_MS = 10000,
    /* Anything that is waited for must have happened by then. */
    SOON_S = 15,
    PATH_BYTES = 512,
    DATA_BYTES = 128,
};

/* What the watchers, called in the client's own thread, have seen last. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;
static int connected;
static int event_type;
static char event_path[PATH_BYTES];

static const char *root;

static void check(int holds, const char *what)
{
    printf("%s %s\n", holds ? "PASS" : "FAIL", what);
    if (!holds)
        exit(1);
}

/* An answer's code, named when it is the wrong one. */
static void expect(int code, int wanted, const char *what)
{
    if (code != wanted)
        printf("got %s, wanted %s\n", zerror(code), zerror(wanted));
    check(code == wanted, what);
}

static const char *below(const char *name)
{
    static char path[2][PATH_BYTES];
    static int turn;

    turn = !turn;
    snprintf(path[turn], PATH_BYTES, "%s/%s", root, name);
    return path[turn];
}

static void session_watcher(zhandle_t *zh, int type, int state, const char *path, void *context)
{
    (void)zh, (void)path, (void)context;
    pthread_mutex_lock(&lock);
    if (type == ZOO_SESSION_EVENT)
        connected = state == ZOO_CONNECTED_STATE;
    pthread_cond_broadcast(&news);
    pthread_mutex_unlock(&lock);
}

static void watcher(zhandle_t *zh, int type, int state, const char *path, void *context)
{
    (void)zh, (void)state, (void)context;
    pthread_mutex_lock(&lock);
    event_type = type;
    snprintf(event_path, sizeof event_path, "%s", path);
    pthread_cond_broadcast(&news);
    pthread_mutex_unlock(&lock);
}

/* Waits until `*value` is set, takes it and clears it; 0 if it never is. */
static int await(int *value)
{
    struct timespec deadline;
    int taken;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += SOON_S;
    pthread_mutex_lock(&lock);
    while (*value == 0 && pthread_cond_timedwait(&news, &lock, &deadline) == 0)
        ;
    taken = *value;
    *value = 0;
    pthread_mutex_unlock(&lock);
    return taken;
}

static zhandle_t *session(const char *hosts)
{
    zhandle_t *zh = zookeeper_init(hosts, session_watcher, SESSION_TIMEOUT_MS, NULL, NULL, 0);

    check(zh != NULL && await(&connected), "connect");
    return zh;
}

static int create(zhandle_t *zh, const char *path, const char *value, int mode, char *made)
{
    return zoo_create(zh, path, value, (int)strlen(value), &ZOO_OPEN_ACL_UNSAFE, mode, made, PATH_BYTES);
}

static void znodes(zhandle_t *zh)
{
    char made[PATH_BYTES], data[DATA_BYTES];
    int length = sizeof data;
    struct Stat stat;
    struct String_vector children;

    expect(create(zh, below("a"), "hello", ZOO_PERSISTENT, made), ZOK, "create");
    check(strcmp(made, below("a")) == 0, "the path comes back");
    expect(create(zh, below("a"), "", ZOO_PERSISTENT, made), ZNODEEXISTS, "create twice");
    expect(create(zh, below("none/x"), "", ZOO_PERSISTENT, made), ZNONODE, "create without a parent");
    expect(zoo_get(zh, below("a"), 0, data, &length, &stat), ZOK, "get");
    check(length == 5 && memcmp(data, "hello", 5) == 0, "the data comes back");
    check(stat.version == 0 && stat.dataLength == 5 && stat.czxid == stat.mzxid, "its Stat");
    expect(zoo_set2(zh, below("a"), "new", 3, 0, &stat), ZOK, "set");
    check(stat.version == 1 && stat.mzxid > stat.czxid, "its new Stat");
    expect(zoo_set(zh, below("a"), "", 0, 0), ZBADVERSION, "set with an old version");
    expect(zoo_exists(zh, below("none"), 0, &stat), ZNONODE, "exists of nothing");
    expect(create(zh, below("a/child"), "", ZOO_PERSISTENT, made), ZOK, "create a child");
    expect(zoo_delete(zh, below("a"), -1), ZNOTEMPTY, "delete with a child");
    expect(zoo_get_children2(zh, below("a"), 0, &children, &stat), ZOK, "get children");
    check(children.count == 1 && strcmp(children.data[0], "child") == 0 && stat.numChildren == 1, "the child");
    deallocate_String_vector(&children);
    expect(zoo_delete(zh, below("a/child"), 0), ZOK, "delete the child");
    expect(zoo_delete(zh, below("a"), 1), ZOK, "delete");
}

static void modes(zhandle_t *zh, const char *hosts)
{
    char made[PATH_BYTES];
    struct Stat stat;
    zhandle_t *other;

    expect(create(zh, below("s-"), "", ZOO_PERSISTENT_SEQUENTIAL, made), ZOK, "create a sequential znode");
    check(strcmp(made + strlen(made) - 13, "/s-0000000001") == 0, "its number");
    other = session(hosts);
    expect(create(other, below("e"), "", ZOO_EPHEMERAL, made), ZOK, "create an ephemeral");
    expect(zoo_exists(other, below("e"), 0, &stat), ZOK, "it is there");
    check(stat.ephemeralOwner == zoo_client_id(other)->client_id, "its owner");
    expect(zookeeper_close(other), ZOK, "close its session");
    expect(zoo_wget(zh, below("s-0000000001"), watcher, NULL, made, &(int){PATH_BYTES}, &stat), ZOK, "read on");
    expect(zoo_delete(zh, below("s-0000000001"), -1), ZOK, "delete what is watched");
    check(await(&event_type) == ZOO_DELETED_EVENT, "the watch tells");
    expect(zoo_exists(zh, below("e"), 0, &stat), ZNONODE, "the ephemeral went with its session");
}

static void watches(zhandle_t *zh, const char *hosts)
{
    char made[PATH_BYTES];
    struct Stat stat;
    struct String_vector children;
    zhandle_t *other = session(hosts);

    expect(zoo_wexists(zh, below("w"), watcher, NULL, &stat), ZNONODE, "watch what is not there");
    expect(create(other, below("w"), "", ZOO_PERSISTENT, made), ZOK, "create it from elsewhere");
    check(await(&event_type) == ZOO_CREATED_EVENT && strcmp(event_path, below("w")) == 0, "created event");
    expect(zoo_wexists(zh, below("w"), watcher, NULL, &stat), ZOK, "watch its data");
    expect(zoo_set(other, below("w"), "x", 1, -1), ZOK, "set it from elsewhere");
    check(await(&event_type) == ZOO_CHANGED_EVENT, "changed event");
    expect(zoo_wget_children(zh, below("w"), watcher, NULL, &children), ZOK, "watch its children");
    deallocate_String_vector(&children);
    expect(create(other, below("w/c"), "", ZOO_PERSISTENT, made), ZOK, "create a child from elsewhere");
    check(await(&event_type) == ZOO_CHILD_EVENT, "child event");
    expect(zookeeper_close(other), ZOK, "close the other session");
}

static void multi(zhandle_t *zh)
{
    char made[PATH_BYTES];
    struct Stat stat;
    zoo_op_t ops[4];
    zoo_op_result_t results[4];
    char m[PATH_BYTES];

    snprintf(m, sizeof m, "%s", below("m"));
    zoo_create_op_init(&ops[0], m, "1", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, made, sizeof made);
    zoo_set_op_init(&ops[1], m, "22", 2, 0, &stat);
    zoo_check_op_init(&ops[2], m, 1);
    expect(zoo_multi(zh, 3, ops, results), ZOK, "multi");
    check(strcmp(made, m) == 0 && stat.version == 1, "its results");
    zoo_delete_op_init(&ops[0], m, -1);
    zoo_check_op_init(&ops[1], m, 0);
    expect(zoo_multi(zh, 2, ops, results), ZNONODE, "multi that fails");
    check(results[0].err == ZOK && results[1].err == ZNONODE, "whose fault it was");
    expect(zoo_exists(zh, m, 0, &stat), ZOK, "nothing of it was done");
}

int main(int argc, char **argv)
{
    zhandle_t *zh;

    if (argc != 3) {
        fprintf(stderr, "usage: %s HOSTS ROOT\n", argv[0]);
        return 2;
    }
    root = argv[2];
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    zh = session(argv[1]);
    znodes(zh);
    modes(zh, argv[1]);
    watches(zh, argv[1]);
    multi(zh);
    expect(zookeeper_close(zh), ZOK, "close");
    return 0;
}
