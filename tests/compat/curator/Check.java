import java.nio.charset.StandardCharsets;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;

/** What cases expect. */
final class Check {
    private Check() {}

    static void equal(Object expected, Object found) {
        if (!Objects.equals(expected, found)) {
            throw new AssertionError("expected " + expected + ", found " + found);
        }
    }

    static void that(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError("not so: " + what);
        }
    }

    /** The action must fail with exactly this. */
    static void fails(Class<? extends Exception> with, Callable<?> action) {
        Object result;
        try {
            result = action.call();
        } catch (Exception failure) {
            if (failure.getClass() != with) {
                throw new AssertionError("expected " + with.getSimpleName() + ", failed with " + failure, failure);
            }
            return;
        }
        throw new AssertionError("expected " + with.getSimpleName() + ", and it succeeded: " + result);
    }

    /** Waits for the next element. */
    static <T> T next(BlockingQueue<T> from) throws InterruptedException {
        T element = from.poll(CuratorCompat.SOON_MS, TimeUnit.MILLISECONDS);
        that(element != null, "something comes within " + CuratorCompat.SOON_MS + " ms");
        return element;
    }

    /** Takes elements until there is one that equals the wanted one. */
    static <T> void reaches(BlockingQueue<T> from, T wanted) throws InterruptedException {
        T element = next(from);
        while (!Objects.equals(element, wanted)) {
            element = next(from);
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] data) {
        return new String(data, StandardCharsets.UTF_8);
    }
}
