import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";
import "swagger-ui-dist/swagger-ui.css";
import "./docs.css";

// validatorUrl: null, because Swagger UI would otherwise send the file's address to an external validator.
SwaggerUI({ url: "/openapi.json", dom_id: "#docs", validatorUrl: null, deepLinking: true });
