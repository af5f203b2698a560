import com.jcraft.jsch.ChannelDirectTCPIP;
import com.jcraft.jsch.ChannelExec;
import com.jcraft.jsch.ChannelSftp;
import com.jcraft.jsch.JSch;
import com.jcraft.jsch.JSchException;
import com.jcraft.jsch.Session;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.LinkedHashMap;
import java.util.Map;

/** JSch, in the fork that is kept: Ant, Eclipse and older IDEs. */
final class WithJsch implements Probe.Library {
    private final Session session = connect();

    WithJsch() throws JSchException {}

    private static Session connect() throws JSchException {
        JSch jsch = new JSch();
        jsch.addIdentity(Probe.KEY);
        Session session = jsch.getSession(Probe.USER, Probe.HOST, Probe.PORT);
        session.setConfig("StrictHostKeyChecking", "no");
        session.connect(Probe.TIMEOUT_MS);
        return session;
    }

    private static void command(Session session) throws Exception {
        ChannelExec channel = (ChannelExec) session.openChannel("exec");
        channel.setCommand(Probe.COMMAND);
        ByteArrayOutputStream errors = new ByteArrayOutputStream();
        channel.setErrStream(errors);
        InputStream out = channel.getInputStream();
        channel.connect(Probe.TIMEOUT_MS);
        Probe.check("stdout", new String(Probe.all(out)), "out\n");
        closed(channel);
        Probe.check("stderr", errors.toString(), "err\n");
        Probe.check("exit code", channel.getExitStatus(), 7);
        channel.disconnect();
    }

    private static void closed(ChannelExec channel) throws InterruptedException {
        while (!channel.isClosed()) {
            Thread.sleep(5); // the library has no way to wait
        }
    }

    private void stdin() throws Exception {
        ChannelExec channel = (ChannelExec) session.openChannel("exec");
        channel.setCommand("sha256sum");
        channel.setInputStream(new ByteArrayInputStream(Probe.bulk()));
        InputStream out = channel.getInputStream();
        channel.connect(Probe.TIMEOUT_MS);
        Probe.check("hash", new String(Probe.all(out)).split(" ")[0], Probe.digest(Probe.bulk()));
        channel.disconnect();
    }

    private void terminal() throws Exception {
        ChannelExec channel = (ChannelExec) session.openChannel("exec");
        channel.setPty(true);
        channel.setPtyType("xterm", 91, 33, 0, 0);
        channel.setCommand("stty size");
        InputStream out = channel.getInputStream();
        channel.connect(Probe.TIMEOUT_MS);
        Probe.check("size", new String(Probe.all(out)).strip(), "33 91");
        channel.disconnect();
    }

    private void files() throws Exception {
        ChannelSftp sftp = (ChannelSftp) session.openChannel("sftp");
        sftp.connect(Probe.TIMEOUT_MS);
        sftp.put(Probe.here().toString(), Probe.NAME);
        sftp.get(Probe.NAME, Probe.FOLDER.resolve("back").toString());
        Probe.sameAsBulk(Probe.FOLDER.resolve("back"));
        sftp.rename(Probe.NAME, Probe.NAME + "2");
        Probe.check("listing", sftp.ls(Probe.NAME + "2").size(), 1);
        sftp.rm(Probe.NAME + "2");
        sftp.disconnect();
    }

    private void forward() throws Exception {
        ChannelDirectTCPIP channel = (ChannelDirectTCPIP) session.openChannel("direct-tcpip");
        channel.setHost("127.0.0.1");
        channel.setPort(Probe.ECHO);
        InputStream in = channel.getInputStream();
        OutputStream out = channel.getOutputStream();
        channel.connect(Probe.TIMEOUT_MS);
        byte[] words = "there and back".getBytes();
        out.write(words);
        out.flush();
        Probe.check("content", new String(in.readNBytes(words.length)), "there and back");
        channel.disconnect();
    }

    @Override
    public Map<String, Probe.Feature> features() {
        Map<String, Probe.Feature> features = new LinkedHashMap<>();
        features.put("command", () -> command(session));
        features.put("stdin", this::stdin);
        features.put("terminal", this::terminal);
        features.put("files", this::files);
        features.put("forward", this::forward);
        features.put("many", () -> {
            for (int count = 0; count < 10; count++) {
                Session one = connect();
                command(one);
                one.disconnect();
            }
        });
        return features;
    }

    @Override
    public String version() {
        return JSch.VERSION;
    }

    @Override
    public void close() {
        session.disconnect();
    }
}
