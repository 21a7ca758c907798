import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";
import "swagger-ui-dist/swagger-ui.css";
import "./docs.css";

// validatorUrl: null, or Swagger UI asks a service elsewhere whether our file is valid.
SwaggerUI({ url: "/openapi.json", dom_id: "#docs", validatorUrl: null, deepLinking: true });
