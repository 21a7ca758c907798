import { createRoot } from "react-dom/client";
import { uploadImage } from "./api";
import { App } from "./components/App";
import { catchUp } from "./history";
import { ModelStore } from "./models";
import { PredictionStore } from "./predictions";
import { followPredictions } from "./stream";
import { TrainingStore } from "./trainings";
import { UploadQueue } from "./uploads";
import "./style.css";

const store = new PredictionStore();
const queue = new UploadQueue(store, uploadImage);

followPredictions({
  onPrediction: (prediction) => store.receive(prediction),
  onDeleted: (id) => store.remove(id),
  onReload: () => {
    store.startOver();
    void catchUp(store);
  },
  onConnection: (connection) => {
    store.setConnection(connection);
    // At the first opening too: the history may have been read before the stream was subscribed.
    if (connection === "live") void catchUp(store);
  },
});
void catchUp(store);

const place = document.getElementById("app");
if (place) {
  createRoot(place).render(
    <App store={store} queue={queue} models={new ModelStore()} trainings={new TrainingStore()} />,
  );
}
