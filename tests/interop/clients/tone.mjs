// A camera and a microphone that need no devices, for @livekit/rtc-node.
import {
  AudioFrame, AudioSource, LocalAudioTrack, LocalVideoTrack, TrackPublishOptions, TrackSource, VideoBufferType, VideoFrame, VideoSource,
} from '@livekit/rtc-node';

const WIDTH = 640;
const HEIGHT = 360;
const RATE = 48000;

function publishOptions(source) {
  const options = new TrackPublishOptions();
  options.source = source;
  options.simulcast = false;
  return options;
}

/** Publishes a moving picture at 15 fps until `going()` is false. */
export async function publishCamera(room, going) {
  const source = new VideoSource(WIDTH, HEIGHT);
  (async () => {
    for (let n = 0; going(); n += 1) {
      const picture = new Uint8Array((WIDTH * HEIGHT * 3) / 2).fill(128);
      for (let y = 0; y < HEIGHT; y += 1) picture.fill((y + n * 4) & 255, y * WIDTH, y * WIDTH + WIDTH / 2);
      source.captureFrame(new VideoFrame(picture, WIDTH, HEIGHT, VideoBufferType.I420));
      await new Promise((resolve) => setTimeout(resolve, 1000 / 15));
    }
  })();
  await room.localParticipant.publishTrack(LocalVideoTrack.createVideoTrack('cam', source), publishOptions(TrackSource.SOURCE_CAMERA));
}

/** Publishes a tone of 500 Hz until `going()` is false. */
export async function publishMicrophone(room, going) {
  const source = new AudioSource(RATE, 1);
  const hum = async () => {
    for (let n = 0; going(); n += 480) {
      const wave = Int16Array.from({ length: 480 }, (_, i) => 8000 * Math.sin((2 * Math.PI * 500 * (n + i)) / RATE));
      await source.captureFrame(new AudioFrame(wave, RATE, 1, 480));
    }
  };
  hum().catch(() => {}); // the source is closed under it at the end
  await room.localParticipant.publishTrack(LocalAudioTrack.createAudioTrack('mic', source), publishOptions(TrackSource.SOURCE_MICROPHONE));
}
