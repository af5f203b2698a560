import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.sshd.client.SshClient;
import org.apache.sshd.client.channel.ChannelExec;
import org.apache.sshd.client.channel.ClientChannelEvent;
import org.apache.sshd.client.keyverifier.AcceptAllServerKeyVerifier;
import org.apache.sshd.client.session.ClientSession;
import org.apache.sshd.common.keyprovider.FileKeyPairProvider;
import org.apache.sshd.common.util.net.SshdSocketAddress;
import org.apache.sshd.sftp.client.SftpClient;
import org.apache.sshd.sftp.client.SftpClientFactory;

/** Apache MINA SSHD: JetBrains' gateways, Jenkins, Gerrit. */
final class WithMina implements Probe.Library {
    private static final Duration TIMEOUT = Duration.ofMillis(Probe.TIMEOUT_MS);

    private final SshClient client = SshClient.setUpDefaultClient();
    private final ClientSession session;

    WithMina() throws Exception {
        client.setServerKeyVerifier(AcceptAllServerKeyVerifier.INSTANCE);
        client.setKeyIdentityProvider(new FileKeyPairProvider(Path.of(Probe.KEY)));
        client.start();
        session = connect();
    }

    private ClientSession connect() throws Exception {
        ClientSession session = client.connect(Probe.USER, Probe.HOST, Probe.PORT).verify(TIMEOUT).getSession();
        session.auth().verify(TIMEOUT);
        return session;
    }

    /** Runs a command; returns output, errors and exit code, by line. */
    private static String[] run(ClientSession session, String command, byte[] input, boolean terminal) throws Exception {
        try (ChannelExec channel = session.createExecChannel(command)) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            ByteArrayOutputStream errors = new ByteArrayOutputStream();
            channel.setOut(out);
            channel.setErr(errors);
            channel.setIn(new ByteArrayInputStream(input));
            if (terminal) {
                channel.setUsePty(true);
                channel.setPtyType("xterm");
                channel.setPtyColumns(91);
                channel.setPtyLines(33);
            }
            channel.open().verify(TIMEOUT);
            channel.waitFor(EnumSet.of(ClientChannelEvent.CLOSED), TIMEOUT);
            return new String[] {out.toString(), errors.toString(), String.valueOf(channel.getExitStatus())};
        }
    }

    private static void command(ClientSession session) throws Exception {
        String[] done = run(session, Probe.COMMAND, new byte[0], false);
        Probe.check("stdout", done[0], "out\n");
        Probe.check("stderr", done[1], "err\n");
        Probe.check("exit code", done[2], "7");
    }

    private void files() throws Exception {
        try (SftpClient sftp = SftpClientFactory.instance().createSftpClient(session)) {
            try (var to = sftp.write(Probe.NAME)) {
                Files.copy(Probe.here(), to);
            }
            Path back = Probe.FOLDER.resolve("back");
            try (var from = sftp.read(Probe.NAME)) {
                Files.write(back, Probe.all(from));
            }
            Probe.sameAsBulk(back);
            sftp.rename(Probe.NAME, Probe.NAME + "2");
            Probe.check("size", sftp.stat(Probe.NAME + "2").getSize(), (long) Probe.bulk().length);
            sftp.remove(Probe.NAME + "2");
        }
    }

    private void large() throws Exception {
        Path file = Probe.FOLDER.resolve("large");
        String digest = Probe.large(file);
        try (SftpClient sftp = SftpClientFactory.instance().createSftpClient(session)) {
            try (var to = sftp.write(Probe.NAME)) {
                Files.copy(file, to);
            }
            String said = run(session, "sha256sum " + Probe.NAME, new byte[0], false)[0];
            Probe.check("hash", said.split(" ")[0], digest);
            sftp.remove(Probe.NAME);
        }
        Files.delete(file);
    }

    private void forward() throws Exception {
        SshdSocketAddress here = new SshdSocketAddress("127.0.0.1", 0);
        SshdSocketAddress bound = session.startLocalPortForwarding(here, new SshdSocketAddress("127.0.0.1", Probe.ECHO));
        echoed("127.0.0.1", bound.getPort());
        session.stopLocalPortForwarding(bound);
    }

    private static void echoed(String host, int port) throws Exception {
        try (Socket socket = new Socket(host, port)) {
            byte[] words = "there and back".getBytes(); // the library passes no half-close on
            socket.getOutputStream().write(words);
            Probe.check("content", new String(socket.getInputStream().readNBytes(words.length)), "there and back");
        }
    }

    @Override
    public Map<String, Probe.Feature> features() {
        Map<String, Probe.Feature> features = new LinkedHashMap<>();
        features.put("command", () -> command(session));
        features.put("stdin", () -> Probe.check(
                "hash", run(session, "sha256sum", Probe.bulk(), false)[0].split(" ")[0], Probe.digest(Probe.bulk())));
        features.put("terminal", () -> Probe.check(
                "size", run(session, "stty size", new byte[0], true)[0].strip(), "33 91"));
        features.put("files", this::files);
        features.put("forward", this::forward);
        features.put("many", () -> {
            for (int count = 0; count < 200; count++) { // as an IDE does
                try (ClientSession one = connect()) {
                    command(one);
                }
            }
        });
        features.put("many at once", () -> Probe.parallel(200, 16, () -> {
            try (ClientSession one = connect()) {
                command(one);
            }
        }));
        features.put("large upload", this::large);
        features.put("long forward", () -> {
            SshdSocketAddress here = new SshdSocketAddress("127.0.0.1", 0);
            SshdSocketAddress echo = new SshdSocketAddress("127.0.0.1", Probe.ECHO);
            SshdSocketAddress bound = session.startLocalPortForwarding(here, echo);
            try (Socket socket = new Socket("127.0.0.1", bound.getPort())) {
                Probe.converse(socket.getInputStream(), socket.getOutputStream());
            }
            session.stopLocalPortForwarding(bound);
        });
        return features;
    }

    @Override
    public String version() {
        return SshClient.class.getPackage().getImplementationVersion();
    }

    @Override
    public void close() throws Exception {
        session.close();
        client.stop();
    }
}
