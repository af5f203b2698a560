# Net::SSH and Net::SFTP, which Capistrano and Vagrant are made of.
require 'digest'
require 'net/sftp'
require 'net/ssh'
require 'socket'

PORT = Integer(ENV.fetch('PROBE_PORT'))
BULK = Digest::SHA256.digest('seed') * 98_304
NAME = ENV.fetch('PROBE_NAME')

def connect(&)
  Net::SSH.start('127.0.0.1', ENV.fetch('PROBE_USER'), port: PORT, keys: [ENV.fetch('PROBE_KEY')], keys_only: true,
                 verify_host_key: :never, config: false, use_agent: false, timeout: 30, non_interactive: true, &)
end

def check(what, got, wanted)
  raise "#{what}: #{got.inspect[0, 200]}, not #{wanted.inspect[0, 80]}" unless got == wanted
end

# Runs a command; returns its output, its errors and its exit code.
def run(ssh, command, input: nil, pty: nil)
  out = +''
  err = +''
  code = nil
  ssh.open_channel do |channel|
    channel.request_pty(pty) if pty
    channel.exec(command) do |_, started|
      raise 'the command is refused' unless started

      channel.on_data { |_, data| out << data }
      channel.on_extended_data { |_, _, data| err << data }
      channel.on_request('exit-status') { |_, data| code = data.read_long }
      channel.send_data(input) if input
      channel.eof!
    end
  end
  ssh.loop
  [out, err, code]
end

FEATURES = {
  'command' => ->(ssh) { check('result', run(ssh, 'echo out; echo err >&2; exit 7'), ["out\n", "err\n", 7]) },
  'stdin' => ->(ssh) { check('hash', run(ssh, 'sha256sum', input: BULK)[0].split[0], Digest::SHA256.hexdigest(BULK)) },
  'terminal' => lambda do |ssh|
    check('size', run(ssh, 'stty size', pty: { term: 'xterm', chars_wide: 91, chars_high: 33 })[0].strip, '33 91')
  end,
  'files' => lambda do |ssh|
    here, back = %w[here back].map { |name| File.join(ENV.fetch('PROBE_FOLDER'), name) }
    File.binwrite(here, BULK)
    ssh.sftp.upload!(here, NAME)
    ssh.sftp.download!(NAME, back)
    check('content', Digest::SHA256.hexdigest(File.binread(back)), Digest::SHA256.hexdigest(BULK))
    ssh.sftp.rename!(NAME, "#{NAME}2")
    check('listing', ssh.sftp.dir.entries('.').map(&:name).include?("#{NAME}2"), true)
    ssh.sftp.remove!("#{NAME}2")
  end,
  'forward' => lambda do |ssh|
    port = ssh.forward.local('127.0.0.1', 0, '127.0.0.1', Integer(ENV.fetch('PROBE_ECHO')))
    text = nil
    there = Thread.new do
      socket = TCPSocket.new('127.0.0.1', port)
      socket.write('there and back')
      text = socket.read(14) # the library passes no half-close on
    end
    ssh.loop(0.1) { there.alive? }
    check('content', text, 'there and back')
    ssh.forward.cancel_local(port, '127.0.0.1')
  end,
  'many' => ->(_) { 10.times { connect { |ssh| FEATURES['command'].call(ssh) } } }
}.freeze

puts "version #{Net::SSH::Version::STRING}"
connect do |ssh|
  FEATURES.each do |name, feature|
    feature.call(ssh)
    puts "ok #{name}"
  rescue StandardError => e
    puts "fail #{name}: #{e.class}: #{e.message[0, 300].split.join(' ')}"
  end
end
