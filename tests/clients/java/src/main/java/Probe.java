import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.Collections;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** What every probe in Java shares, and the choice of the library by the first argument. */
final class Probe {
    static final int PORT = Integer.parseInt(System.getenv("PROBE_PORT"));
    /** The server's own name, which is what its host certificate is for; it listens on 127.0.0.1. */
    static final String HOST = System.getenv("PROBE_HOST");
    static final String USER = System.getenv("PROBE_USER");
    static final String KEY = System.getenv("PROBE_KEY");
    static final int ECHO = Integer.parseInt(System.getenv("PROBE_ECHO"));
    static final Path FOLDER = Path.of(System.getenv("PROBE_FOLDER"));
    static final String NAME = System.getenv("PROBE_NAME");
    static final String COMMAND = "echo out; echo err >&2; exit 7";
    static final int TIMEOUT_MS = 30_000;

    /** A feature of the table. */
    interface Feature {
        void run() throws Exception;
    }

    /** What a library offers. */
    interface Library extends AutoCloseable {
        Map<String, Feature> features();

        /** The library's own version. */
        String version();
    }

    private Probe() {}

    static byte[] bulk() throws Exception {
        byte[] block = MessageDigest.getInstance("SHA-256").digest("seed".getBytes());
        byte[] bulk = new byte[3 << 20];
        for (int at = 0; at < bulk.length; at += block.length) {
            System.arraycopy(block, 0, bulk, at, block.length);
        }
        return bulk;
    }

    static String digest(byte[] data) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(data));
    }

    static byte[] all(InputStream from) throws Exception {
        ByteArrayOutputStream to = new ByteArrayOutputStream();
        from.transferTo(to);
        return to.toByteArray();
    }

    static Path here() throws Exception {
        return Files.write(FOLDER.resolve("here"), bulk());
    }

    static void sameAsBulk(Path file) throws Exception {
        check("content", digest(Files.readAllBytes(file)), digest(bulk()));
    }

    /** What an IDE sends when it brings its backend along: 200 MB, no two blocks alike. Gives the file's digest. */
    static String large(Path file) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        byte[] block = new byte[1_000_000];
        Random random = new Random(7);
        try (OutputStream to = Files.newOutputStream(file)) {
            for (int count = 0; count < 200; count++) {
                random.nextBytes(block);
                digest.update(block);
                to.write(block);
            }
        }
        return HexFormat.of().formatHex(digest.digest());
    }

    /** Runs it so often, so many at a time; the first that fails fails all. */
    static void parallel(int count, int atOnce, Feature one) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(atOnce);
        try {
            List<Callable<Void>> all = Collections.nCopies(count, () -> {
                one.run();
                return null;
            });
            for (Future<Void> done : pool.invokeAll(all)) {
                done.get();
            }
        } finally {
            pool.shutdownNow();
        }
    }

    /** A connection to the echo as an IDE keeps one: thousands of small messages, and much both ways at the same time. */
    static void converse(InputStream from, OutputStream out) throws Exception {
        DataInputStream in = new DataInputStream(from); // readNBytes ends with a read of no bytes, for which sshj waits
        for (int turn = 0; turn < 2_000; turn++) {
            byte[] words = ("message " + turn).getBytes();
            out.write(words);
            out.flush();
            byte[] back = new byte[words.length];
            in.readFully(back);
            check("message", new String(back), new String(words));
        }
        int blocks = 32;
        byte[] block = new byte[1 << 20];
        new Random(11).nextBytes(block);
        ExecutorService writer = Executors.newSingleThreadExecutor();
        try {
            Future<Void> written = writer.submit(() -> {
                for (int count = 0; count < blocks; count++) {
                    out.write(block);
                }
                out.flush();
                return null;
            });
            byte[] back = new byte[block.length];
            for (int count = 0; count < blocks; count++) {
                in.readFully(back);
                check("block " + count, digest(back), digest(block));
            }
            written.get();
        } finally {
            writer.shutdownNow();
        }
    }

    static void check(String what, Object got, Object wanted) {
        if (!got.equals(wanted)) {
            throw new AssertionError(what + ": " + got + ", not " + wanted);
        }
    }

    public static void main(String[] args) throws Exception {
        Path hosts = Files.writeString(FOLDER.resolve("hosts"), "127.0.0.1 " + HOST + "\n127.0.0.1 localhost\n");
        System.setProperty("jdk.net.hosts.file", hosts.toString()); // read at the first look-up
        try (Library library = switch (args[0]) {
            case "jsch" -> new WithJsch();
            case "mina" -> new WithMina();
            case "sshj" -> new WithSshj();
            default -> throw new IllegalArgumentException(args[0]);
        }) {
            System.out.println("version " + library.version());
            for (Map.Entry<String, Feature> feature : new LinkedHashMap<>(library.features()).entrySet()) {
                try {
                    feature.getValue().run();
                    System.out.println("ok " + feature.getKey());
                } catch (Exception | AssertionError error) {
                    String text = String.valueOf(error).replaceAll("\\s+", " ");
                    System.out.println("fail " + feature.getKey() + ": " + text.substring(0, Math.min(300, text.length())));
                }
            }
        }
        System.exit(0); // some of the libraries leave threads behind
    }
}
