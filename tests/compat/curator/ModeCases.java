import java.util.Map;
import org.apache.curator.framework.CuratorFramework;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.data.Stat;

/** The seven ways to create a znode. */
final class ModeCases {
    private static final long TTL_MS = 60_000;

    private ModeCases() {}

    static void addTo(Map<String, CuratorCompat.Case> cases) {
        cases.put("PERSISTENT", ModeCases::persistent);
        cases.put("PERSISTENT_SEQUENTIAL", ModeCases::persistentSequential);
        cases.put("EPHEMERAL", ModeCases::ephemeral);
        cases.put("EPHEMERAL_SEQUENTIAL", ModeCases::ephemeralSequential);
        cases.put("CONTAINER", ModeCases::container);
        cases.put("PERSISTENT_WITH_TTL", in -> ttlIsRefused(in, CreateMode.PERSISTENT_WITH_TTL));
        cases.put("PERSISTENT_SEQUENTIAL_WITH_TTL", in -> ttlIsRefused(in, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL));
        cases.put("with protection", ModeCases::withProtection);
    }

    private static void persistent(CuratorCompat.Context in) throws Exception {
        try (CuratorFramework creator = in.another()) {
            creator.create().withMode(CreateMode.PERSISTENT).forPath(in.path("p"));
        }
        in.client().sync().forPath(in.path("p"));
        Check.equal(0L, in.client().checkExists().forPath(in.path("p")).getEphemeralOwner());
    }

    private static void persistentSequential(CuratorCompat.Context in) throws Exception {
        for (int n = 0; n < 3; n++) {
            String path = in.client().create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath(in.path("s-"));
            Check.equal(in.path("s-000000000" + n), path);
        }
    }

    private static void ephemeral(CuratorCompat.Context in) throws Exception {
        try (CuratorFramework creator = in.another()) {
            creator.create().withMode(CreateMode.EPHEMERAL).forPath(in.path("e"));
            long session = creator.getZookeeperClient().getZooKeeper().getSessionId();
            Check.equal(session, creator.checkExists().forPath(in.path("e")).getEphemeralOwner());
            Check.fails(
                    KeeperException.NoChildrenForEphemeralsException.class,
                    () -> creator.create().forPath(in.path("e/child")));
        }
        in.client().sync().forPath(in.root());
        Check.equal(null, in.client().checkExists().forPath(in.path("e")));
    }

    private static void ephemeralSequential(CuratorCompat.Context in) throws Exception {
        try (CuratorFramework creator = in.another()) {
            for (int n = 0; n < 3; n++) {
                String path = creator.create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(in.path("es-"));
                Check.equal(in.path("es-000000000" + n), path);
                Check.that(creator.checkExists().forPath(path).getEphemeralOwner() != 0, "it has an owner");
            }
        }
        in.client().sync().forPath(in.root());
        Check.equal(0, in.client().checkExists().forPath(in.root()).getNumChildren());
    }

    /** A server may not know containers, but then it must say so, and create nothing. */
    private static void container(CuratorCompat.Context in) throws Exception {
        CuratorFramework client = in.client();
        try {
            client.create().withMode(CreateMode.CONTAINER).forPath(in.path("c"), Check.bytes("x"));
        } catch (KeeperException.UnimplementedException refused) {
            Check.equal(null, client.checkExists().forPath(in.path("c")));
            return;
        }
        Stat stat = client.checkExists().forPath(in.path("c"));
        Check.equal(0L, stat.getEphemeralOwner());
        client.create().forPath(in.path("c/child"));
        client.create().creatingParentContainersIfNeeded().forPath(in.path("d/e/f"));
        Check.equal(1, client.checkExists().forPath(in.path("d")).getNumChildren());
    }

    /** TTL znodes are off by default. The refusal must leave the connection and the data as they were. */
    private static void ttlIsRefused(CuratorCompat.Context in, CreateMode mode) throws Exception {
        CuratorFramework client = in.client();
        long session = client.getZookeeperClient().getZooKeeper().getSessionId();
        Check.fails(
                KeeperException.UnimplementedException.class,
                () -> client.create().withTtl(TTL_MS).withMode(mode).forPath(in.path("t")));
        Check.equal(0, client.getChildren().forPath(in.root()).size());
        Check.equal(session, client.getZookeeperClient().getZooKeeper().getSessionId());
    }

    /** Curator finds what it has created by a part of the name, if an answer was lost. */
    private static void withProtection(CuratorCompat.Context in) throws Exception {
        String path = in.client().create()
                .withProtection()
                .withMode(CreateMode.EPHEMERAL_SEQUENTIAL)
                .forPath(in.path("p-"));
        Check.that(path.startsWith(in.path("_c_")), path + " is protected");
        Check.that(path.endsWith("-p-0000000000"), path + " is numbered");
    }
}
