'use strict'

// Shows openapi.yaml in the page. Nothing is asked of any other server.
SwaggerUIBundle({
  url: 'openapi.yaml',
  domNode: document.getElementById('reference'),
  validatorUrl: null, // the default is a service elsewhere
  deepLinking: true,
  filter: true,
  docExpansion: 'list',
  defaultModelExpandDepth: 3, // of the schema of a body: its members with their descriptions
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
})
