// A program of several threads that makes garbage and checks what it keeps, answers each line with
// its progress, and ends with 3 where something changed.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.concurrent.atomic.AtomicLong;

class Runtime1 {
    static final AtomicLong rounds = new AtomicLong();

    static void work() {
        String[][] keep = new String[2000][];
        for (int n = 0; ; n = (n + 1) & 0xfffffff) {
            String[] made = new String[50];
            for (int i = 0; i < made.length; i++) made[i] = "x" + (n + i);
            keep[n % keep.length] = made;
            String[] old = keep[(int) ((n * 7L) % keep.length)];
            if (old != null) {
                int first = Integer.parseInt(old[0].substring(1));
                for (int i = 0; i < old.length; i++)
                    if (Integer.parseInt(old[i].substring(1)) != first + i)
                        java.lang.Runtime.getRuntime().halt(3);
            }
            rounds.incrementAndGet();
        }
    }

    static void sleep() {
        try {
            for (;;) {
                long before = System.nanoTime();
                Thread.sleep(2);
                if (System.nanoTime() - before < 1_900_000) java.lang.Runtime.getRuntime().halt(3);
                rounds.incrementAndGet();
            }
        } catch (InterruptedException interrupted) {
            java.lang.Runtime.getRuntime().halt(3);
        }
    }

    public static void main(String[] arguments) throws Exception {
        for (int i = 0; i < 2; i++) {
            Thread thread = new Thread(Runtime1::work);
            thread.setUncaughtExceptionHandler((t, error) -> java.lang.Runtime.getRuntime().halt(3));
            thread.setDaemon(true);
            thread.start();
        }
        Thread sleeper = new Thread(Runtime1::sleep);
        sleeper.setDaemon(true);
        sleeper.start();
        System.out.println("{\"pid\":" + ProcessHandle.current().pid() + "}");
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null && !line.equals("quit"); line = input.readLine())
            System.out.println("{\"rounds\":" + rounds.get() + "}");
        System.exit(0);
    }
}
