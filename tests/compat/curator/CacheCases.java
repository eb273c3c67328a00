import java.util.Map;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;

/** Curator's caches on one-shot watches, and their heir on a persistent recursive one. */
@SuppressWarnings("deprecation")
final class CacheCases {
    /** More events than any case causes. */
    private static final int MANY = 100;

    private CacheCases() {}

    static void addTo(Map<String, CuratorCompat.Case> cases) {
        cases.put("NodeCache", CacheCases::nodeCache);
        cases.put("PathChildrenCache", CacheCases::pathChildrenCache);
        cases.put("TreeCache", CacheCases::treeCache);
        cases.put("CuratorCache", CacheCases::curatorCache);
        cases.put("PersistentWatcher", CacheCases::persistentWatcher);
    }

    private static void nodeCache(CuratorCompat.Context in) throws Exception {
        BlockingQueue<String> seen = new ArrayBlockingQueue<>(MANY);
        try (CuratorFramework other = in.another();
                NodeCache cache = new NodeCache(in.client(), in.path("a"))) {
            cache.getListenable().addListener(() -> {
                ChildData now = cache.getCurrentData();
                seen.add(now == null ? "gone" : Check.text(now.getData()));
            });
            cache.start(true);
            Check.equal(null, cache.getCurrentData());
            other.sync().forPath(in.root());
            other.create().forPath(in.path("a"), Check.bytes("one"));
            Check.reaches(seen, "one");
            other.setData().forPath(in.path("a"), Check.bytes("two"));
            Check.reaches(seen, "two");
            other.delete().forPath(in.path("a"));
            Check.reaches(seen, "gone");
        }
    }

    private static void pathChildrenCache(CuratorCompat.Context in) throws Exception {
        BlockingQueue<String> seen = new ArrayBlockingQueue<>(MANY);
        try (CuratorFramework other = in.another();
                PathChildrenCache cache = new PathChildrenCache(in.client(), in.root(), true)) {
            cache.getListenable().addListener((client, event) -> {
                if (event.getData() != null) {
                    seen.add(event.getType() + " " + event.getData().getPath());
                }
            });
            cache.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
            other.sync().forPath(in.root());
            other.create().forPath(in.path("a"), Check.bytes("one"));
            Check.reaches(seen, "CHILD_ADDED " + in.path("a"));
            other.setData().forPath(in.path("a"), Check.bytes("two"));
            Check.reaches(seen, "CHILD_UPDATED " + in.path("a"));
            Check.equal("two", Check.text(cache.getCurrentData(in.path("a")).getData()));
            other.create().forPath(in.path("b"));
            Check.reaches(seen, "CHILD_ADDED " + in.path("b"));
            other.delete().forPath(in.path("a"));
            Check.reaches(seen, "CHILD_REMOVED " + in.path("a"));
            Check.equal(1, cache.getCurrentData().size());
        }
    }

    private static void treeCache(CuratorCompat.Context in) throws Exception {
        BlockingQueue<String> seen = new ArrayBlockingQueue<>(MANY);
        try (CuratorFramework other = in.another();
                TreeCache cache = new TreeCache(in.client(), in.root())) {
            cache.getListenable().addListener((client, event) ->
                    seen.add(event.getType() + (event.getData() == null ? "" : " " + event.getData().getPath())));
            cache.start();
            Check.reaches(seen, "INITIALIZED");
            other.sync().forPath(in.root());
            other.create().creatingParentsIfNeeded().forPath(in.path("a/b/c"), Check.bytes("deep"));
            Check.reaches(seen, "NODE_ADDED " + in.path("a/b/c"));
            Check.equal("deep", Check.text(cache.getCurrentData(in.path("a/b/c")).getData()));
            other.setData().forPath(in.path("a/b"), Check.bytes("middle"));
            Check.reaches(seen, "NODE_UPDATED " + in.path("a/b"));
            other.delete().deletingChildrenIfNeeded().forPath(in.path("a"));
            Check.reaches(seen, "NODE_REMOVED " + in.path("a"));
        }
    }

    private static void curatorCache(CuratorCompat.Context in) throws Exception {
        BlockingQueue<String> seen = new ArrayBlockingQueue<>(MANY);
        try (CuratorFramework other = in.another();
                CuratorCache cache = CuratorCache.build(in.client(), in.root())) {
            cache.listenable().addListener((type, before, now) ->
                    seen.add(type + " " + (now == null ? before : now).getPath()));
            cache.start();
            Check.reaches(seen, "NODE_CREATED " + in.root());
            other.sync().forPath(in.root());
            other.create().creatingParentsIfNeeded().forPath(in.path("a/b/c"), Check.bytes("deep"));
            Check.reaches(seen, "NODE_CREATED " + in.path("a/b/c"));
            Check.equal("deep", Check.text(cache.get(in.path("a/b/c")).orElseThrow().getData()));
            other.setData().forPath(in.path("a/b"), Check.bytes("middle"));
            Check.reaches(seen, "NODE_CHANGED " + in.path("a/b"));
            other.delete().deletingChildrenIfNeeded().forPath(in.path("a"));
            Check.reaches(seen, "NODE_DELETED " + in.path("a"));
        }
    }

    private static void persistentWatcher(CuratorCompat.Context in) throws Exception {
        BlockingQueue<String> seen = new ArrayBlockingQueue<>(MANY);
        try (CuratorFramework other = in.another();
                PersistentWatcher watcher = new PersistentWatcher(in.client(), in.root(), false)) {
            watcher.getListenable().addListener(event -> seen.add(event.getType() + " " + event.getPath()));
            CountDownLatch isSet = new CountDownLatch(1);
            watcher.getResetListenable().addListener(isSet::countDown);
            watcher.start();
            Check.equal(true, isSet.await(CuratorCompat.SOON_MS, TimeUnit.MILLISECONDS));
            for (int n = 0; n < 3; n++) {
                other.create().forPath(in.path("a"));
                Check.reaches(seen, "NodeChildrenChanged " + in.root());
                other.delete().forPath(in.path("a"));
                Check.reaches(seen, "NodeChildrenChanged " + in.root());
                other.setData().forPath(in.root(), Check.bytes("again"));
                Check.reaches(seen, "NodeDataChanged " + in.root());
            }
        }
    }
}
