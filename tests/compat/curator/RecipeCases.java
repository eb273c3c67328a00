import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedCountListener;
import org.apache.curator.framework.recipes.shared.SharedCountReader;
import org.apache.curator.framework.recipes.shared.VersionedValue;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;

/** Curator's recipes, between two sessions or more. */
final class RecipeCases {
    private RecipeCases() {}

    static void addTo(Map<String, CuratorCompat.Case> cases) {
        cases.put("InterProcessMutex excludes", RecipeCases::mutexExcludes);
        cases.put("InterProcessMutex is re-entrant and times out", RecipeCases::mutexTimesOut);
        cases.put("InterProcessReadWriteLock", RecipeCases::readWriteLock);
        cases.put("InterProcessSemaphoreV2", RecipeCases::semaphore);
        cases.put("LeaderLatch", RecipeCases::leaderLatch);
        cases.put("DistributedAtomicLong", RecipeCases::atomicLong);
        cases.put("SharedCount", RecipeCases::sharedCount);
        cases.put("DistributedDoubleBarrier", RecipeCases::doubleBarrier);
        cases.put("PersistentNode", RecipeCases::persistentNode);
    }

    private static boolean acquire(InterProcessMutex lock) throws Exception {
        return lock.acquire(CuratorCompat.SOON_MS, TimeUnit.MILLISECONDS);
    }

    /** Runs the work for this client and another at once. */
    private static void together(CuratorCompat.Context in, Work work) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(2);
        try (CuratorFramework other = in.another()) {
            List<Callable<Void>> both = new ArrayList<>();
            for (CuratorFramework client : List.of(in.client(), other)) {
                both.add(() -> {
                    work.with(client);
                    return null;
                });
            }
            for (Future<Void> each : threads.invokeAll(both)) {
                each.get();
            }
        } finally {
            threads.shutdownNow();
        }
    }

    /** What one of two clients does. */
    private interface Work {
        void with(CuratorFramework client) throws Exception;
    }

    private static void mutexExcludes(CuratorCompat.Context in) throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger entered = new AtomicInteger();
        together(in, client -> {
            InterProcessMutex lock = new InterProcessMutex(client, in.path("lock"));
            for (int n = 0; n < 25; n++) {
                Check.that(acquire(lock), "the lock is had");
                Check.equal(1, inside.incrementAndGet());
                client.sync().forPath(in.root());
                entered.incrementAndGet();
                inside.decrementAndGet();
                lock.release();
            }
        });
        Check.equal(50, entered.get());
    }

    private static void mutexTimesOut(CuratorCompat.Context in) throws Exception {
        InterProcessMutex mine = new InterProcessMutex(in.client(), in.path("lock"));
        Check.that(acquire(mine) && acquire(mine), "the holder may enter again");
        try (CuratorFramework other = in.another()) {
            InterProcessMutex theirs = new InterProcessMutex(other, in.path("lock"));
            Check.that(!theirs.acquire(300, TimeUnit.MILLISECONDS), "the other one waits in vain");
            mine.release();
            Check.that(!theirs.acquire(300, TimeUnit.MILLISECONDS), "held once still");
            mine.release();
            Check.that(acquire(theirs), "it is free");
        }
        // The other session ended with the lock in its hands.
        Check.that(acquire(mine), "it is free again");
        mine.release();
    }

    private static void readWriteLock(CuratorCompat.Context in) throws Exception {
        InterProcessReadWriteLock mine = new InterProcessReadWriteLock(in.client(), in.path("lock"));
        try (CuratorFramework other = in.another()) {
            InterProcessReadWriteLock theirs = new InterProcessReadWriteLock(other, in.path("lock"));
            Check.that(acquire(mine.readLock()) && acquire(theirs.readLock()), "two may read");
            Check.that(!theirs.writeLock().acquire(300, TimeUnit.MILLISECONDS), "nobody may write");
            theirs.readLock().release();
            mine.readLock().release();
            Check.that(acquire(theirs.writeLock()), "one may write");
            Check.that(!mine.readLock().acquire(300, TimeUnit.MILLISECONDS), "nobody may read");
            theirs.writeLock().release();
        }
    }

    private static void semaphore(CuratorCompat.Context in) throws Exception {
        InterProcessSemaphoreV2 mine = new InterProcessSemaphoreV2(in.client(), in.path("semaphore"), 2);
        try (CuratorFramework other = in.another()) {
            InterProcessSemaphoreV2 theirs = new InterProcessSemaphoreV2(other, in.path("semaphore"), 2);
            Lease first = mine.acquire(CuratorCompat.SOON_MS, TimeUnit.MILLISECONDS);
            Lease second = theirs.acquire(CuratorCompat.SOON_MS, TimeUnit.MILLISECONDS);
            Check.that(first != null && second != null, "there are two leases");
            Check.equal(null, theirs.acquire(300, TimeUnit.MILLISECONDS));
            mine.returnLease(first);
            Check.that(theirs.acquire(CuratorCompat.SOON_MS, TimeUnit.MILLISECONDS) != null, "one came back");
        }
    }

    private static void leaderLatch(CuratorCompat.Context in) throws Exception {
        try (CuratorFramework other = in.another()) {
            LeaderLatch mine = new LeaderLatch(in.client(), in.path("latch"), "mine");
            LeaderLatch theirs = new LeaderLatch(other, in.path("latch"), "theirs");
            theirs.start();
            Check.that(theirs.await(CuratorCompat.SOON_MS, TimeUnit.MILLISECONDS), "the first one leads");
            mine.start();
            Check.that(!mine.await(300, TimeUnit.MILLISECONDS), "the second one waits");
            in.client().sync().forPath(in.path("latch"));
            Check.equal("theirs", mine.getLeader().getId());
            theirs.close();
            Check.that(mine.await(CuratorCompat.SOON_MS, TimeUnit.MILLISECONDS), "the second one leads");
            mine.close();
        }
    }

    private static void atomicLong(CuratorCompat.Context in) throws Exception {
        together(in, client -> {
            DistributedAtomicLong counter =
                    new DistributedAtomicLong(client, in.path("counter"), new RetryNTimes(1000, 1));
            for (int n = 0; n < 25; n++) {
                Check.that(counter.increment().succeeded(), "it is counted");
            }
        });
        in.client().sync().forPath(in.path("counter"));
        Check.equal(
                50L,
                new DistributedAtomicLong(in.client(), in.path("counter"), new RetryNTimes(1, 1)).get().postValue());
    }

    private static void sharedCount(CuratorCompat.Context in) throws Exception {
        try (CuratorFramework other = in.another();
                SharedCount mine = new SharedCount(in.client(), in.path("count"), 7);
                SharedCount theirs = new SharedCount(other, in.path("count"), 7)) {
            BlockingQueue<Integer> seen = new ArrayBlockingQueue<>(10);
            mine.start();
            theirs.start();
            theirs.addListener(new SharedCountListener() {
                @Override
                public void countHasChanged(SharedCountReader count, int value) {
                    seen.add(value);
                }

                @Override
                public void stateChanged(CuratorFramework client, ConnectionState state) {}
            });
            VersionedValue<Integer> seven = mine.getVersionedValue();
            Check.equal(7, seven.getValue());
            Check.that(mine.trySetCount(seven, 8), "nobody else has set it");
            Check.equal(8, Check.next(seen));
            Check.that(!mine.trySetCount(seven, 9), "it is no longer the seven of before");
        }
    }

    private static void doubleBarrier(CuratorCompat.Context in) throws Exception {
        AtomicInteger arrived = new AtomicInteger();
        AtomicInteger leaving = new AtomicInteger();
        together(in, client -> {
            DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(client, in.path("barrier"), 2);
            arrived.incrementAndGet();
            Check.that(barrier.enter(CuratorCompat.SOON_MS, TimeUnit.MILLISECONDS), "both have come");
            Check.equal(2, arrived.get());
            leaving.incrementAndGet();
            Check.that(barrier.leave(CuratorCompat.SOON_MS, TimeUnit.MILLISECONDS), "both go");
            Check.equal(2, leaving.get());
        });
    }

    private static void persistentNode(CuratorCompat.Context in) throws Exception {
        try (CuratorFramework other = in.another();
                PersistentNode node = new PersistentNode(
                        other, CreateMode.EPHEMERAL, false, in.path("here"), Check.bytes("I am"))) {
            node.start();
            Check.that(node.waitForInitialCreate(CuratorCompat.SOON_MS, TimeUnit.MILLISECONDS), "it is made");
            in.client().sync().forPath(in.path("here"));
            Check.equal("I am", Check.text(in.client().getData().forPath(in.path("here"))));
        }
        in.client().sync().forPath(in.root());
        Check.equal(null, in.client().checkExists().forPath(in.path("here")));
    }
}
