import { createRoot } from "react-dom/client";
import { uploadImage } from "./api";
import { App } from "./components/App";
import { ModelStore } from "./models";
import { catchUp } from "./prediction-requests";
import { PredictionStore } from "./predictions";
import { followPredictions } from "./stream";
import { TrainingStore } from "./trainings";
import { UploadQueue } from "./upload-queue";
import "./style.css";

const store = new PredictionStore();
const queue = new UploadQueue(store, uploadImage);

followPredictions({
  onPrediction: (prediction) => store.receive(prediction),
  onDeleted: (id) => store.remove(id),
  onReload: () => {
    store.markStale();
    void catchUp(store);
  },
  onConnection: (connection) => {
    store.setConnection(connection);
    // Read again even when the stream first opens: events may have come between the first read and the opening.
    if (connection === "live") void catchUp(store);
  },
});
void catchUp(store);

const root = document.getElementById("app");
if (root) {
  createRoot(root).render(
    <App store={store} queue={queue} models={new ModelStore()} trainings={new TrainingStore()} />,
  );
}
