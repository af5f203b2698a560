import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import net.schmizz.sshj.SSHClient;
import net.schmizz.sshj.connection.channel.direct.DirectConnection;
import net.schmizz.sshj.connection.channel.direct.Session;
import net.schmizz.sshj.sftp.SFTPClient;
import net.schmizz.sshj.transport.verification.PromiscuousVerifier;

/** sshj: JetBrains' IDEs and Gradle plugins. */
final class WithSshj implements Probe.Library {
    private final SSHClient client = connect();

    WithSshj() throws Exception {}

    private static SSHClient connect() throws Exception {
        SSHClient client = new SSHClient();
        client.addHostKeyVerifier(new PromiscuousVerifier());
        client.setConnectTimeout(Probe.TIMEOUT_MS);
        client.setTimeout(Probe.TIMEOUT_MS);
        client.connect(Probe.HOST, Probe.PORT);
        client.authPublickey(Probe.USER, Probe.KEY);
        return client;
    }

    private static void command(SSHClient client) throws Exception {
        try (Session session = client.startSession()) {
            Session.Command command = session.exec(Probe.COMMAND);
            Probe.check("stdout", new String(Probe.all(command.getInputStream())), "out\n");
            Probe.check("stderr", new String(Probe.all(command.getErrorStream())), "err\n");
            command.join(Probe.TIMEOUT_MS, TimeUnit.MILLISECONDS);
            Probe.check("exit code", command.getExitStatus(), 7);
        }
    }

    private void stdin() throws Exception {
        try (Session session = client.startSession()) {
            Session.Command command = session.exec("sha256sum");
            try (OutputStream to = command.getOutputStream()) {
                to.write(Probe.bulk());
            }
            Probe.check("hash", new String(Probe.all(command.getInputStream())).split(" ")[0], Probe.digest(Probe.bulk()));
        }
    }

    private void terminal() throws Exception {
        try (Session session = client.startSession()) {
            session.allocatePTY("xterm", 91, 33, 0, 0, Map.of());
            Session.Command command = session.exec("stty size");
            Probe.check("size", new String(Probe.all(command.getInputStream())).strip(), "33 91");
        }
    }

    private void files() throws Exception {
        try (SFTPClient sftp = client.newSFTPClient()) {
            sftp.put(Probe.here().toString(), Probe.NAME);
            sftp.get(Probe.NAME, Probe.FOLDER.resolve("back").toString());
            Probe.sameAsBulk(Probe.FOLDER.resolve("back"));
            sftp.rename(Probe.NAME, Probe.NAME + "2");
            Probe.check("size", sftp.size(Probe.NAME + "2"), (long) Probe.bulk().length);
            sftp.rm(Probe.NAME + "2");
        }
    }

    private void large() throws Exception {
        Path file = Probe.FOLDER.resolve("large");
        String digest = Probe.large(file);
        try (SFTPClient sftp = client.newSFTPClient()) {
            sftp.put(file.toString(), Probe.NAME);
            try (Session session = client.startSession()) {
                Session.Command command = session.exec("sha256sum " + Probe.NAME);
                Probe.check("hash", new String(Probe.all(command.getInputStream())).split(" ")[0], digest);
            }
            sftp.rm(Probe.NAME);
        }
        Files.delete(file);
    }

    private void forward() throws Exception {
        try (DirectConnection there = client.newDirectConnection("127.0.0.1", Probe.ECHO)) {
            try (OutputStream to = there.getOutputStream()) {
                to.write("there and back".getBytes());
            }
            Probe.check("content", new String(Probe.all(there.getInputStream())), "there and back");
        }
    }

    @Override
    public Map<String, Probe.Feature> features() {
        Map<String, Probe.Feature> features = new LinkedHashMap<>();
        features.put("command", () -> command(client));
        features.put("stdin", this::stdin);
        features.put("terminal", this::terminal);
        features.put("files", this::files);
        features.put("forward", this::forward);
        features.put("many", () -> {
            for (int count = 0; count < 200; count++) { // as an IDE does
                try (SSHClient one = connect()) {
                    command(one);
                }
            }
        });
        features.put("many at once", () -> Probe.parallel(200, 16, () -> {
            try (SSHClient one = connect()) {
                command(one);
            }
        }));
        features.put("large upload", this::large);
        features.put("long forward", () -> {
            try (DirectConnection there = client.newDirectConnection("127.0.0.1", Probe.ECHO)) {
                Probe.converse(there.getInputStream(), there.getOutputStream());
            }
        });
        return features;
    }

    @Override
    public String version() {
        return new net.schmizz.sshj.DefaultConfig().getVersion();
    }

    @Override
    public void close() throws Exception {
        client.close();
    }
}
