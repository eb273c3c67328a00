import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.CuratorEvent;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.api.transaction.OperationType;
import org.apache.curator.retry.RetryOneTime;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.data.Stat;

/** The operations on single znodes, and transactions. */
final class ZnodeCases {
    private ZnodeCases() {}

    static void addTo(Map<String, CuratorCompat.Case> cases) {
        cases.put("create without the parents", ZnodeCases::createWithoutParents);
        cases.put("create with the parents", ZnodeCases::createWithParents);
        cases.put("create or set", ZnodeCases::createOrSet);
        cases.put("get data", ZnodeCases::getData);
        cases.put("set data", ZnodeCases::setData);
        cases.put("check exists", ZnodeCases::checkExists);
        cases.put("delete", ZnodeCases::delete);
        cases.put("delete with the children", ZnodeCases::deleteWithChildren);
        cases.put("get children", ZnodeCases::getChildren);
        cases.put("watch", ZnodeCases::watch);
        cases.put("in the background", ZnodeCases::inBackground);
        cases.put("transaction", ZnodeCases::transaction);
        cases.put("transaction rolled back", ZnodeCases::transactionRolledBack);
        cases.put("ACL and authorization", ZnodeCases::acl);
        cases.put("namespace", ZnodeCases::namespace);
        cases.put("sync", ZnodeCases::sync);
    }

    private static void createWithoutParents(CuratorCompat.Context in) throws Exception {
        CuratorFramework client = in.client();
        Check.equal(in.path("a"), client.create().forPath(in.path("a"), Check.bytes("hello")));
        Check.fails(KeeperException.NodeExistsException.class, () -> client.create().forPath(in.path("a")));
        Check.fails(KeeperException.NoNodeException.class, () -> client.create().forPath(in.path("x/y")));
    }

    private static void createWithParents(CuratorCompat.Context in) throws Exception {
        CuratorFramework client = in.client();
        client.create().creatingParentsIfNeeded().forPath(in.path("x/y/z"), Check.bytes("deep"));
        Check.equal("deep", Check.text(client.getData().forPath(in.path("x/y/z"))));
        client.create().creatingParentsIfNeeded().forPath(in.path("x/y/again"));
        Check.equal(2, client.checkExists().forPath(in.path("x/y")).getNumChildren());
    }

    private static void createOrSet(CuratorCompat.Context in) throws Exception {
        for (String value : List.of("one", "two")) {
            in.client().create().orSetData().forPath(in.path("a"), Check.bytes(value));
            Check.equal(value, Check.text(in.client().getData().forPath(in.path("a"))));
        }
    }

    private static void getData(CuratorCompat.Context in) throws Exception {
        in.client().create().forPath(in.path("a"), Check.bytes("12345"));
        Stat stat = new Stat();
        Check.equal("12345", Check.text(in.client().getData().storingStatIn(stat).forPath(in.path("a"))));
        Check.equal(5, stat.getDataLength());
        Check.equal(stat.getCzxid(), stat.getMzxid());
        Check.fails(KeeperException.NoNodeException.class, () -> in.client().getData().forPath(in.path("none")));
    }

    private static void setData(CuratorCompat.Context in) throws Exception {
        CuratorFramework client = in.client();
        client.create().forPath(in.path("a"));
        Check.equal(1, client.setData().forPath(in.path("a"), Check.bytes("1")).getVersion());
        Check.equal(2, client.setData().withVersion(1).forPath(in.path("a"), Check.bytes("2")).getVersion());
        Check.fails(
                KeeperException.BadVersionException.class,
                () -> client.setData().withVersion(1).forPath(in.path("a"), Check.bytes("3")));
        Check.equal("2", Check.text(client.getData().forPath(in.path("a"))));
    }

    private static void checkExists(CuratorCompat.Context in) throws Exception {
        Check.equal(null, in.client().checkExists().forPath(in.path("a")));
        in.client().create().forPath(in.path("a"), new byte[3]);
        Check.equal(3, in.client().checkExists().forPath(in.path("a")).getDataLength());
    }

    private static void delete(CuratorCompat.Context in) throws Exception {
        CuratorFramework client = in.client();
        client.create().creatingParentsIfNeeded().forPath(in.path("a/b"));
        Check.fails(KeeperException.NotEmptyException.class, () -> client.delete().forPath(in.path("a")));
        Check.fails(
                KeeperException.BadVersionException.class,
                () -> client.delete().withVersion(3).forPath(in.path("a/b")));
        client.delete().withVersion(0).forPath(in.path("a/b"));
        client.delete().guaranteed().forPath(in.path("a"));
        Check.fails(KeeperException.NoNodeException.class, () -> client.delete().forPath(in.path("a")));
        client.delete().quietly().forPath(in.path("a"));
    }

    private static void deleteWithChildren(CuratorCompat.Context in) throws Exception {
        for (String below : List.of("a/b/c", "a/d", "a/e/f/g")) {
            in.client().create().creatingParentsIfNeeded().forPath(in.path(below));
        }
        in.client().delete().deletingChildrenIfNeeded().forPath(in.path("a"));
        Check.equal(null, in.client().checkExists().forPath(in.path("a")));
    }

    private static void getChildren(CuratorCompat.Context in) throws Exception {
        for (String name : List.of("c", "a", "b")) {
            in.client().create().forPath(in.path(name));
        }
        Stat stat = new Stat();
        List<String> children = in.client().getChildren().storingStatIn(stat).forPath(in.root());
        Collections.sort(children);
        Check.equal(List.of("a", "b", "c"), children);
        Check.equal(3, stat.getNumChildren());
        Check.fails(
                KeeperException.NoNodeException.class, () -> in.client().getChildren().forPath(in.path("none")));
    }

    private static void watch(CuratorCompat.Context in) throws Exception {
        BlockingQueue<WatchedEvent> events = new ArrayBlockingQueue<>(10);
        in.client().create().forPath(in.path("a"));
        in.client().getData().usingWatcher((org.apache.zookeeper.Watcher) events::add).forPath(in.path("a"));
        try (CuratorFramework other = in.another()) {
            other.sync().forPath(in.path("a"));
            other.setData().forPath(in.path("a"), Check.bytes("new"));
            WatchedEvent event = Check.next(events);
            Check.equal(EventType.NodeDataChanged, event.getType());
            Check.equal(in.path("a"), event.getPath());
        }
    }

    private static void inBackground(CuratorCompat.Context in) throws Exception {
        BlockingQueue<CuratorEvent> done = new ArrayBlockingQueue<>(10);
        in.client().create().inBackground((client, event) -> done.add(event)).forPath(in.path("a"));
        Check.equal(KeeperException.Code.OK.intValue(), Check.next(done).getResultCode());
        in.client().create().inBackground((client, event) -> done.add(event)).forPath(in.path("a"));
        Check.equal(KeeperException.Code.NODEEXISTS.intValue(), Check.next(done).getResultCode());
    }

    private static void transaction(CuratorCompat.Context in) throws Exception {
        CuratorFramework client = in.client();
        client.create().forPath(in.path("old"));
        List<CuratorTransactionResult> results = client.transaction()
                .forOperations(
                        client.transactionOp().check().withVersion(0).forPath(in.path("old")),
                        client.transactionOp().create().forPath(in.path("new"), Check.bytes("1")),
                        client.transactionOp().setData().forPath(in.path("new"), Check.bytes("2")),
                        client.transactionOp().delete().forPath(in.path("old")));
        Check.equal(4, results.size());
        Check.equal(OperationType.CREATE, results.get(1).getType());
        Check.equal(in.path("new"), results.get(1).getResultPath());
        Check.equal(1, results.get(2).getResultStat().getVersion());
        Check.equal(List.of("new"), client.getChildren().forPath(in.root()));
    }

    private static void transactionRolledBack(CuratorCompat.Context in) throws Exception {
        CuratorFramework client = in.client();
        Check.fails(
                KeeperException.NoNodeException.class,
                () -> client.transaction()
                        .forOperations(
                                client.transactionOp().create().forPath(in.path("new")),
                                client.transactionOp().delete().forPath(in.path("none"))));
        Check.equal(List.of(), client.getChildren().forPath(in.root()));
    }

    private static void acl(CuratorCompat.Context in) throws Exception {
        try (CuratorFramework owner = CuratorFrameworkFactory.builder()
                .connectString(in.hosts())
                .retryPolicy(new RetryOneTime(1))
                .authorization("digest", Check.bytes("alice:secret"))
                .build()) {
            owner.start();
            owner.create().withACL(ZooDefs.Ids.CREATOR_ALL_ACL).forPath(in.path("hers"), Check.bytes("x"));
            Check.equal("x", Check.text(owner.getData().forPath(in.path("hers"))));
            Check.equal("digest", owner.getACL().forPath(in.path("hers")).get(0).getId().getScheme());
            in.client().sync().forPath(in.path("hers"));
            Check.fails(
                    KeeperException.NoAuthException.class, () -> in.client().getData().forPath(in.path("hers")));
            owner.setACL().withACL(ZooDefs.Ids.OPEN_ACL_UNSAFE).forPath(in.path("hers"));
        }
        in.client().sync().forPath(in.path("hers"));
        Check.equal("x", Check.text(in.client().getData().forPath(in.path("hers"))));
    }

    private static void namespace(CuratorCompat.Context in) throws Exception {
        CuratorFramework inside = in.client().usingNamespace(in.path("space").substring(1));
        inside.create().forPath("/a", Check.bytes("x"));
        Check.equal("x", Check.text(in.client().getData().forPath(in.path("space/a"))));
    }

    private static void sync(CuratorCompat.Context in) throws Exception {
        try (CuratorFramework other = in.another()) {
            for (int n = 0; n < 20; n++) {
                in.client().create().orSetData().forPath(in.path("a"), Check.bytes("" + n));
                other.sync().forPath(in.path("a"));
                Check.equal("" + n, Check.text(other.getData().forPath(in.path("a"))));
            }
        }
    }
}
