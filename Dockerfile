# syntax=docker/dockerfile:1

# The current LTS line of Node. Pin a digest where builds have to be reproducible.
ARG NODE_VERSION=24

# What is made here runs on any processor, so it is made on the builder's own.
FROM --platform=$BUILDPLATFORM node:${NODE_VERSION}-alpine AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./

FROM packages AS compiled
# With the optional ones: TypeScript's compiler is such a package.
RUN npm ci --ignore-scripts
COPY LICENSE tsconfig.json tsconfig.build.json ./
COPY build ./build
COPY src ./src
RUN npm run build

FROM packages AS installed
# Without the optional ones: they are the database of `pbflagd dev`.
RUN npm ci --omit=dev --omit=optional --ignore-scripts

FROM node:${NODE_VERSION}-alpine
ENV NODE_ENV=production \
    PBFLAGS_LISTEN=:9201 \
    PBFLAGS_STATE_DIR=/var/lib/pbflagd
WORKDIR /app
COPY package.json ./
COPY migrations ./migrations
COPY --from=installed /app/node_modules ./node_modules
COPY --from=compiled /app/dist ./dist
# Readable to everybody, whatever they were where they came from.
RUN chmod -R a+rX package.json migrations && ln -s /app/dist/main.js /usr/local/bin/pbflagd
# 65532: nobody's number, and not root's. What bridges restarts is its only folder.
RUN mkdir -p /var/lib/pbflagd && chown 65532:65532 /var/lib/pbflagd && chmod 700 /var/lib/pbflagd
USER 65532:65532
VOLUME ["/var/lib/pbflagd"]
EXPOSE 9201
# Asks the address of PBFLAGS_LISTEN. With another one in arguments or a file, set the variable as well.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["pbflagd", "health"]
ENTRYPOINT ["pbflagd"]
CMD ["serve"]
