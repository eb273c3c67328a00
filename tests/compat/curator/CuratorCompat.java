import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryNTimes;

/**
 * Runs one group of cases against an ensemble and prints PASS or FAIL for each.
 *
 * <p>Arguments: the ensemble's connect string, the group, and an existing znode whose children are the cases'
 * own. Exit code 0 if all pass, 1 if one fails, 2 if the arguments are wrong.
 */
public final class CuratorCompat {
    /** What a case does; it fails by throwing. */
    interface Case {
        void run(Context context) throws Exception;
    }

    /** What a case is given. */
    record Context(String hosts, CuratorFramework client, String root) {
        /** Another session. Close it. */
        CuratorFramework another() {
            return connect(hosts);
        }

        String path(String below) {
            return root + "/" + below;
        }
    }

    /** Milliseconds. Anything that a case waits for must have happened by then. */
    static final int SOON_MS = 15_000;

    private static final int SESSION_TIMEOUT_MS = 10_000;
    private static final int CONNECTION_TIMEOUT_MS = 10_000;
    private static final int RETRIES = 5;
    private static final int RETRY_PAUSE_MS = 200;

    private CuratorCompat() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 3) {
            System.err.println("usage: CuratorCompat HOSTS znodes|modes|recipes|caches ROOT");
            System.exit(2);
        }
        Map<String, Case> cases = new LinkedHashMap<>();
        switch (arguments[1]) {
            case "znodes" -> ZnodeCases.addTo(cases);
            case "modes" -> ModeCases.addTo(cases);
            case "recipes" -> RecipeCases.addTo(cases);
            case "caches" -> CacheCases.addTo(cases);
            default -> throw new IllegalArgumentException("no group " + arguments[1]);
        }
        System.exit(runAll(cases, arguments[0], arguments[2]) ? 0 : 1);
    }

    private static boolean runAll(Map<String, Case> cases, String hosts, String root) throws Exception {
        boolean allPassed = true;
        try (CuratorFramework client = connect(hosts)) {
            int number = 0;
            for (Map.Entry<String, Case> each : cases.entrySet()) {
                String own = client.create().forPath(root + "/case" + number++);
                try {
                    each.getValue().run(new Context(hosts, client, own));
                    System.out.println("PASS " + each.getKey());
                } catch (Exception | AssertionError failure) {
                    allPassed = false;
                    System.out.println("FAIL " + each.getKey());
                    failure.printStackTrace(System.out);
                }
            }
        }
        return allPassed;
    }

    static CuratorFramework connect(String hosts) {
        CuratorFramework client = CuratorFrameworkFactory.newClient(
                hosts, SESSION_TIMEOUT_MS, CONNECTION_TIMEOUT_MS, new RetryNTimes(RETRIES, RETRY_PAUSE_MS));
        client.start();
        return client;
    }
}
