// LiveKit's own meeting page, as its React components make it.
import { LiveKitRoom, VideoConference } from '@livekit/components-react';
import '@livekit/components-styles';
import { VideoPresets } from 'livekit-client';
import { createRoot } from 'react-dom/client';

const query = new URLSearchParams(location.search);
const options = {
  adaptiveStream: true,
  dynacast: true,
  videoCaptureDefaults: { resolution: VideoPresets.h360.resolution }, // three encoders share two cores
};

createRoot(document.getElementById('root')).render(
  <LiveKitRoom
    serverUrl={query.get('url')}
    token={query.get('token')}
    connect
    video
    audio
    options={options}
    data-lk-theme="default"
    style={{ height: '100vh' }}
    onError={(e) => console.error('room error', e.message)}
  >
    <VideoConference />
  </LiveKitRoom>,
);
